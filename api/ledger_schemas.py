"""The wire contract of the ledger and of dead letters."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.schemas import FileAnswer, Id, Name, PageCursor, PageLimit
from projections.rows import DeadLetterGroup, DeadLetterRow, State, StateCount


class LedgerQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/ledger."""

    camera_id: Id | None = None


class FilesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/files."""

    state: State | None = None
    camera_id: Id | None = None
    reason: Name | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class CameraCount(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's files by state."""

    camera_id: str
    states: dict[State, int]
    total: int


class AgeCount(msgspec.Struct, frozen=True, kw_only=True):
    """The files taken in between two ages ago, by state."""

    from_seconds: int
    to_seconds: int | None
    """None: no upper end."""
    states: dict[State, int]
    total: int


class OldestPending(msgspec.Struct, frozen=True, kw_only=True):
    """The file that has been on its way the longest."""

    file_id: str
    camera_id: str
    stage: str
    received_at: datetime
    age_seconds: float


class LedgerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger in numbers, all of one moment; every file is in exactly one state."""

    total: int
    states: dict[State, int]
    stages: dict[str, int]
    """Pending files by the step they wait for."""
    reasons: list[StateCount]
    cameras: list[CameraCount]
    ages: list[AgeCount]
    oldest_pending: OldestPending | None


class FilesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files, the last taken in first."""

    files: list[FileAnswer]
    count: int
    limit: int
    next_cursor: str | None


# --- dead letters ---------------------------------------------------------------------------

Rate = Annotated[float, Meta(gt=0, le=10_000)]
Seconds = Annotated[float, Meta(gt=0, le=60)]


class DeadLettersQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/dlq/jobs/{queue}."""

    cause: Name | None = None
    camera_id: Id | None = None
    start: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: PageLimit = 100
    cursor: PageCursor | None = None


class RequeueQuery(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/dlq/requeue/{queue}."""

    dry_run: bool = False
    confirm: bool = False
    rate: Rate = 500.0


class DecideQuery(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/dlq/requeue-all/{queue} and DELETE /api/dlq/{queue}."""

    cause: Name | None = None
    camera_id: Id | None = None
    ids: Annotated[str, Meta(max_length=4000)] | None = None
    """Only these, with commas between."""
    dry_run: bool = False
    confirm: bool = False
    rate: Rate = 500.0


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /api/dlq/requeue/{queue}; without one the oldest entry is meant."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=1000)]


class DlqStatsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How much lies in the dead letters, grouped by cause."""

    detection_queue_count: int
    """Entries that the group `detect` parked."""
    analysis_queue_count: int
    """Entries that every later group parked: batch, assess, refine."""
    total_count: int
    groups: list[DeadLetterGroup]


class DeadLetterJob(DeadLetterRow, frozen=True, kw_only=True):
    """One parked entry, under our names and those of the earlier interface."""

    queue_name: str
    error_type: str
    attempt_count: int
    links: dict[str, str]


class DeadLetterJobs(msgspec.Struct, frozen=True, kw_only=True):
    """A page of parked entries, oldest first."""

    jobs: list[DeadLetterJob]
    count: int
    limit: int
    next_cursor: str | None


class DeadLetterDetail(DeadLetterJob, frozen=True, kw_only=True):
    """One parked entry with the payload that could not be handled."""

    original_job: str | None
    """The payload as it is stored; None where the log no longer has it."""
    answer: str | None
    """The beginning of what the model said instead of what was agreed, where it said anything."""


class DecidedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a redrive or a discarding did, or with `dry_run` what it would do."""

    success: bool
    """True when nothing that was asked for is left to do."""
    message: str
    action: Literal["redrive", "discard"]
    dry_run: bool
    selected: int
    count: int
    """Entries that were redriven or discarded by this request."""
    already: int
    """Decided before: nothing was done."""
    skipped: int
    """Not in the log any more, or in a consumer's hands."""
    remaining: int
    """Selected, but the time for one request was over: ask again."""
    groups: list[DeadLetterGroup]
    """What was there before, by cause."""
