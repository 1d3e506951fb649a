"""What the read models answer: one frozen struct a kind of row, and pages of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from domain.events import (
    BatchFacts,
    CapturedFrom,
    CloseReason,
    Level,
    ModelFacts,
    ServiceStatus,
    Signal,
    Stage,
    WhenUnavailable,
)

State = Literal["assessed", "filtered", "duplicate", "rejected", "parked", "pending"]
"""Where a file stands; every file is in exactly one of these."""

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row as a query answers it."""


class Page(Row, Generic[T], frozen=True, kw_only=True):
    """Rows of one page, newest first, and where the next page begins (None: there is none)."""

    items: list[T]
    next_cursor: str | None


class CameraRow(Row, frozen=True, kw_only=True):
    """A camera as it is configured now, and when it was last heard of."""

    id: str
    name: str
    folder: str
    source: Literal["api", "folder"]
    enabled: bool
    entry_point: bool
    when_unavailable: WhenUnavailable
    scene_change_threshold: float | None
    """In the place of SCENE_CHANGE_THRESHOLD; None: that counts."""
    confirmed: bool
    """True for a camera a person added, or took over after it was found as a folder."""
    created_at: datetime
    removed_at: datetime | None
    last_seen_at: datetime | None
    """Event time of the newest picture."""
    last_file_at: datetime | None
    """When the newest file of any kind was taken in."""


class FileRow(Row, frozen=True, kw_only=True):
    """A file that reached a camera's folder, with its one ledger state."""

    file_id: str
    camera_id: str
    path: str
    sha256: str | None
    size_bytes: int
    media: Literal["image", "video"] | None
    """None for a file that was rejected or is a duplicate."""
    captured_at: datetime | None
    captured_from: CapturedFrom | None
    received_at: datetime
    width: int | None
    height: int | None
    duration_seconds: float | None
    frames: int | None
    duplicate_of: str | None
    rejected_reason: str | None
    rejected_detail: str | None
    state: State
    reason: str
    """rejected: code; duplicate: file id; parked: cause; pending: stage; filtered: words."""
    redacted_at: datetime | None
    """When retention deleted its bytes; None: it did not."""


class PictureRow(Row, frozen=True, kw_only=True):
    """A picture and how far it got; `state` is one of assessed, filtered, parked, pending."""

    picture_id: str
    file_id: str
    camera_id: str
    uri: str
    captured_at: datetime
    frame: int
    width: int
    height: int
    received_at: datetime
    detected_at: datetime | None
    detection_count: int | None
    model: str | None
    model_version: str | None
    batch_id: str | None
    event_id: str | None
    assessed_at: datetime | None
    parked_at: datetime | None
    parked_group: str | None
    parked_cause: str | None
    parked_error: str | None
    state: State
    reason: str
    redacted_at: datetime | None
    """When retention deleted its bytes; None: it did not."""
    sha256: str | None
    """Of the file that was taken in; None for a frame of a video."""


class DetectionRow(Row, frozen=True, kw_only=True):
    """One object at or above the threshold: what, where (pixels, top left origin), how sure."""

    id: str
    picture_id: str
    file_id: str
    camera_id: str
    captured_at: datetime
    label: str
    confidence: float
    x: float
    y: float
    width: float
    height: float
    model: str
    model_version: str
    fallback: bool


class EventRow(Row, frozen=True, kw_only=True):
    """One event as a person sees it; score, level, summary and reasoning are the ones in force.

    They are the language model's when it has refined the current stage (`model_stage = stage`),
    else the rules'.
    """

    id: str
    batch_id: str
    camera_id: str
    started_at: datetime
    ended_at: datetime
    stage: Stage
    is_fast_path: bool
    close_reason: CloseReason | None
    picture_ids: list[str]
    labels: list[str]
    risk_score: int
    risk_level: Level
    summary: str
    reasoning: str
    rule_score: int
    rule_level: Level
    floor: int
    rule_summary: str
    rule_reasoning: str
    signals: list[Signal]
    facts: BatchFacts
    rules_version: str
    alert_within_seconds: int | None
    """Assessed later than this after its last picture, it alerts nobody; None: no limit."""
    assessed_at: datetime
    """When the rules' assessment of the current stage was recorded."""
    model_stage: Stage | None
    model_score: int | None
    """What the model answered; evidence only."""
    model_assessed_score: int | None
    """The score after the model's bounded move."""
    model_assessed_level: Level | None
    model: str | None
    model_prompt_version: str | None
    model_prompt_sha256: str | None
    model_raw_text: str | None
    model_tokens_in: int | None
    """Of the question whose answer is kept, like the figures that follow."""
    model_tokens_out: int | None
    model_seconds: float | None
    model_tokens_cached: int | None
    """Tokens of the question that the model still had from before."""
    model_context_window: int | None
    """Tokens of context that the model has for one question."""
    model_left_out: list[str] | None
    """Parts of the question that did not fit the context, the least useful first."""
    model_canary: bool | None
    """True when a candidate on trial answered instead of the prompt in service."""
    model_candidate_failure: str | None
    """Why the candidate did not answer about an event that was to be a canary."""
    model_summary: str | None
    model_reasoning: str | None
    refined_at: datetime | None
    reviewed: bool
    notes: str
    reviewed_by: str | None
    """Who last changed the mark or the note."""
    reviewed_at: datetime | None
    held: bool
    """Under legal hold: retention passes it by."""
    tokens_in: int | None
    """Of all questions about this event; None: there was none, or the row is older than this."""
    tokens_out: int | None


class EventDetail(Row, frozen=True, kw_only=True):
    """An event with its chain back to the files it came from."""

    event: EventRow
    pictures: list[PictureRow]
    detections: list[DetectionRow]
    files: list[FileRow]


class FileDetail(Row, frozen=True, kw_only=True):
    """A file with everything that came of it, and the files that were the same bytes."""

    file: FileRow
    pictures: list[PictureRow]
    duplicates: list[FileRow]


class StateCount(Row, frozen=True, kw_only=True):
    """How many files are in one state for one reason (for pending: the stage)."""

    state: State
    reason: str
    files: int


class LedgerRow(Row, frozen=True, kw_only=True):
    """How many files of one camera and age are in one state for one reason."""

    camera_id: str
    state: State
    reason: str
    age: int
    """How many of the ages in `ledger_counts.AGES` the file has reached."""
    files: int
    oldest_at: datetime
    """When the oldest of them was taken in."""
    oldest_id: str | None
    """Which file that is; None where nobody waits for it."""


class DeadLetterGroup(Row, frozen=True, kw_only=True):
    """Parked entries of one stage and cause, from one version of the software and the model."""

    group_name: str
    cause: str
    service_version: str
    model: str | None
    model_version: str | None
    entries: int
    oldest_at: datetime
    newest_at: datetime
    error: str
    """What the newest of them says."""


class DeadLetterRow(Row, frozen=True, kw_only=True):
    """One parked entry, and what was decided about it."""

    id: str
    camera_id: str
    source_stream: str
    source_position: str
    group_name: str
    event_id: str
    event_tag: str
    cause: str
    error: str
    attempts: int
    service_version: str
    model: str | None
    model_version: str | None
    parked_at: datetime
    first_parked_at: datetime
    """Earlier than `parked_at` for an entry that was redriven and parked again."""
    first_failed_at: datetime
    """When a handler first failed at it, also before a redrive."""
    first_error_type: str
    last_failed_at: datetime
    retry_delays: list[float]
    """Seconds that it waited for each further try before it was parked this time."""
    picture_id: str | None
    file_id: str | None
    batch_id: str | None
    resolution: Literal["redriven", "discarded"] | None
    resolved_at: datetime | None
    resolved_by: str | None


class Totals(Row, frozen=True, kw_only=True):
    """How much there is; removed cameras do not count."""

    cameras: int
    events: int
    detections: int


class GpuSampleRow(Row, frozen=True, kw_only=True):
    """One GPU at one moment; None is what the driver did not tell."""

    host: str
    gpu_index: int
    sampled_at: datetime
    source: Literal["nvml", "none"]
    name: str | None
    utilization_percent: float | None
    memory_used_mib: float | None
    memory_total_mib: float | None
    temperature_celsius: float | None
    power_watts: float | None


class GpuSourceRow(Row, frozen=True, kw_only=True):
    """When a host last said anything about its GPUs; source `none` means it has none to ask."""

    host: str
    source: Literal["nvml", "none"]
    sampled_at: datetime


class ServiceStateRow(Row, frozen=True, kw_only=True):
    """The last known state of a service that a stage depends on."""

    service: str
    status: ServiceStatus
    message: str
    changed_at: datetime
    paused_stages: list[str] | None = None
    """Stages that pause because it is away; None: nobody has said."""
    model: ModelFacts | None = None
    """Which model it said to be when it last answered a check."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to list; None does not restrict."""

    camera_id: str | None = None
    risk_level: Level | None = None
    min_score: int | None = None
    start: datetime | None = None
    """Events that started at this moment or later."""
    end: datetime | None = None
    """Events that started before this moment."""
    reviewed: bool | None = None
    object_type: str | None = None
    is_fast_path: bool | None = None


@dataclass(frozen=True, slots=True)
class DetectionFilter:
    """Which detections to list; None does not restrict."""

    camera_id: str | None = None
    object_type: str | None = None
    start: datetime | None = None
    """Pictures captured at this moment or later."""
    end: datetime | None = None
    """Pictures captured before this moment."""
    min_confidence: float | None = None


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files to list; None does not restrict."""

    state: State | None = None
    camera_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which parked entries to list; None does not restrict."""

    groups: list[str] | None = None
    """Consumer groups that parked them."""
    cause: str | None = None
    camera_id: str | None = None
