"""The wire contract of lineage: every fact with the entry of the log that it was read from."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from domain.events import (
    Baseline,
    BatchFacts,
    CapturedFrom,
    Channel,
    CloseReason,
    Level,
    Signal,
    Stage,
)
from domain.lateness import NoAlert
from projections.rows import State


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a lineage."""


class Entry(Fact, frozen=True, kw_only=True):
    """Where a fact stands in the log, and what led to it."""

    stream: str
    partition: int
    position: str
    """Redis entry id."""
    id: str
    """Envelope id."""
    type: str
    recorded_at: datetime
    correlation_id: str
    causation_id: str
    """Envelope id of what directly led to this; empty for the first."""


class SeenBox(Fact, frozen=True, kw_only=True):
    """One object the model saw (pixels from the top left), also one that did not count."""

    label: str
    score: float
    x: float
    y: float
    width: float
    height: float
    counts: bool


class FileFact(Fact, frozen=True, kw_only=True):
    """A file as it reached its camera's folder."""

    file_id: str
    camera_id: str
    path: str
    sha256: str | None
    size_bytes: int
    media: Literal["image", "video"] | None
    captured_at: datetime | None
    captured_from: CapturedFrom | None
    """Where the capture time came from: EXIF block, file name, modification time or arrival."""
    received_at: datetime
    width: int | None
    height: int | None
    frames: int | None
    state: State
    reason: str
    entry: Entry | None
    """None when neither the log nor the archive has it any more; `missing` says so."""


class DetectionFact(Fact, frozen=True, kw_only=True):
    """What a model saw in one picture: every box above the floor of 0.05, by falling score."""

    model: str
    model_version: str
    engine: str
    fallback: bool
    canary: bool
    """True when a candidate on trial answered instead of the detector in service."""
    inference_ms: float
    threshold: float
    boxes: list[SeenBox]
    entry: Entry


class PictureFact(Fact, frozen=True, kw_only=True):
    """A picture of a batch, from its file to its place in the batch."""

    picture_id: str
    file_id: str
    uri: str
    captured_at: datetime
    frame: int
    received: Entry | None
    detection: DetectionFact | None
    batched: Entry | None
    late: bool


class MemberFact(Fact, frozen=True, kw_only=True):
    """A picture in a batch and how many of its objects counted."""

    picture_id: str
    file_id: str
    captured_at: datetime
    detections: int


class EscalationFact(Fact, frozen=True, kw_only=True):
    """A fast-path object that had the open batch assessed at once."""

    label: str
    score: float
    members: int
    """Pictures in the batch at that moment."""
    entry: Entry


class BatchFact(Fact, frozen=True, kw_only=True):
    """The batch that became the event; open while `entry` is null."""

    batch_id: str
    started_at: datetime
    ended_at: datetime
    close_reason: CloseReason | None
    is_fast_path: bool
    baseline: Baseline
    members: list[MemberFact]
    escalations: list[EscalationFact]
    entry: Entry | None


class RefinementFact(Fact, frozen=True, kw_only=True):
    """The language model's word on one assessment."""

    model: str
    prompt_version: str
    prompt_sha256: str
    raw_text: str
    model_score: int
    """What the model answered; evidence only."""
    score: int
    level: Level
    summary: str
    reasoning: str
    tokens_in: int
    tokens_out: int
    seconds: float
    canary: bool
    """True when a candidate on trial answered instead of the prompt in service."""
    candidate_failure: str | None
    """Why the candidate did not answer about an event that was to be a canary."""
    entry: Entry


class AssessmentFact(Fact, frozen=True, kw_only=True):
    """The rules' assessment of one stage, and the model's refinement of it if there is one."""

    stage: Stage
    in_force: bool
    score: int
    level: Level
    floor: int
    signals: list[Signal]
    summary: str
    reasoning: str
    rules_version: str
    age_seconds: float
    """From the last picture to when the log took this in."""
    alert_within_seconds: int | None
    """The limit that was set then; null: it was made before there was one."""
    alert: bool
    alert_reason: NoAlert | None
    facts: BatchFacts
    refinement: RefinementFact | None
    entry: Entry


class ReviewFact(Fact, frozen=True, kw_only=True):
    """What a person said about the event."""

    reviewed: bool | None
    notes: str | None
    actor: str
    entry: Entry


class NotificationFact(Fact, frozen=True, kw_only=True):
    """Somebody was to be told of the event, and what came of it."""

    notification_id: str
    channel: Channel
    late: bool
    outcome: Literal["waiting", "sent", "failed"]
    """failed: given up, and among the dead letters; waiting: neither yet."""
    status: int | None
    """HTTP status of the last answer."""
    seconds: float | None
    reason: str | None
    """Why it failed."""
    attempted_at: datetime | None
    requested: Entry
    entry: Entry | None
    """Where its outcome stands; null while it waits."""


class ParkedFact(Fact, frozen=True, kw_only=True):
    """An entry that was moved aside with its error."""

    group: str
    cause: str
    error: str
    attempts: int
    service_version: str
    entry: Entry


class EventLineage(Fact, frozen=True, kw_only=True):
    """GET /api/events/{id}/lineage: from what a person sees back to the files."""

    event_id: str
    camera_id: str
    notifications: list[NotificationFact]
    """Empty: nobody was to be told."""
    reviews: list[ReviewFact]
    assessments: list[AssessmentFact]
    """The one in force first."""
    batch: BatchFact | None
    pictures: list[PictureFact]
    files: list[FileFact]
    parked: list[ParkedFact]
    missing: list[str]
    """What could not be shown, and why; empty when the chain is complete."""


class Step(Fact, frozen=True, kw_only=True):
    """One thing that happened to a picture."""

    step: str
    at: datetime
    text: str
    entry: Entry


class Ending(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Where a picture or file stopped, and why."""

    state: State
    because: str
    """The reason in words; completes "because …"."""
    event_id: str | None = None
    highest_label: str | None = None
    highest_score: float | None = None
    threshold: float | None = None
    duplicate_of: str | None = None
    stage: str | None = None
    since: datetime | None = None
    waits_for: str | None = None
    cause: str | None = None
    error: str | None = None
    attempts: int | None = None
    to_do: str | None = None


class Telling(Fact, frozen=True, kw_only=True):
    """A picture was told as unverified: nothing could look at it then."""

    told_at: datetime
    service: str
    """What was away."""
    reason: str
    entry: Entry


class PicturePath(Fact, frozen=True, kw_only=True):
    """The way of one picture: every step, what was seen in it, and where it stopped."""

    picture_id: str
    frame: int
    captured_at: datetime
    uri: str
    steps: list[Step]
    detection: DetectionFact | None
    unverified: Telling | None
    """How it was told of before anybody had looked at it, if it was."""
    ending: Ending
    links: dict[str, str]


class FileLineage(Fact, frozen=True, kw_only=True):
    """GET /api/files/{id}/lineage: from the file forward to where it stopped and why."""

    file: FileFact
    conclusion: str
    """One sentence for people."""
    ending: Ending
    pictures: list[PicturePath]
    duplicates: list[str]
    """Files that came later with the same bytes."""
    missing: list[str]
    links: dict[str, str]


class LineageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/lineage?of=…: a file, picture, detection, batch or event id, or a file's path."""

    of: Annotated[str, Meta(min_length=1, max_length=4096)]


class LineageFound(msgspec.Struct, frozen=True, kw_only=True):
    """What an id or path names, and where its lineage is."""

    kind: Literal["event", "file"]
    id: str
    earlier: list[str]
    """Files that lay at the same path before, newest first."""
    links: dict[str, str]
