"""The wire contract: what requests may say and what answers look like."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain.events import Level
from domain.lateness import NoAlert
from projections.cursor import PATTERN
from projections.rows import EventRow, FileRow, GpuSampleRow, PictureRow

_NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
_NO_CONTROLS_BUT_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"

Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_CONTROLS)]
GivenName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=_NO_CONTROLS,
        extra_json_schema={"allOf": [{"pattern": r"\S"}]},
    ),
]
"""A name that a person gives: not only white space."""
FolderPath = Annotated[str, Meta(min_length=1, max_length=500, pattern=_NO_CONTROLS)]
Notes = Annotated[str, Meta(max_length=4000, pattern=_NO_CONTROLS_BUT_LINES)]
PageCursor = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        description="The `next_cursor` of the page before.",
        extra_json_schema={"pattern": PATTERN},
    ),
]
PageLimit = Annotated[int, Meta(ge=1, le=1000)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Score = Annotated[int, Meta(ge=0, le=100)]


# --- what requests say ----------------------------------------------------------------------


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events."""

    camera_id: Id | None = None
    risk_level: Level | None = None
    min_score: Score | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    reviewed: bool | None = None
    object_type: Id | None = None
    is_fast_path: bool | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class DetectionsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/detections."""

    camera_id: Id | None = None
    object_type: Id | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    min_confidence: Unit | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class GpuHistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/gpu/history."""

    since: datetime | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 300


class EventChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PATCH /api/events/{id}; what is left out stays, empty notes remove the note."""

    SCHEMA_ALSO: ClassVar = {
        "minProperties": 1,
        "not": {"required": ["hold"], "minProperties": 2},
    }
    reviewed: bool | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET
    hold: bool | UnsetType = UNSET
    """True puts the event under legal hold, so that retention passes it by."""


# --- what answers say -----------------------------------------------------------------------


class EventAnswer(EventRow, frozen=True, kw_only=True):
    """An event; `engine` says who made the score and text that are in force."""

    late: bool
    """Assessed more than LATE_AFTER_SECONDS after its last picture was taken."""
    alert: bool
    """False: it came too long after its pictures to wake anybody with it."""
    alert_reason: NoAlert | None
    engine: Literal["rules", "rules+model"]
    links: dict[str, str]


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events."""

    events: list[EventAnswer]
    count: int
    limit: int
    next_cursor: str | None


class DetectionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One object in one picture; the box counts pixels from the top left corner."""

    id: str
    camera_id: str
    picture_id: str
    file_id: str
    detected_at: datetime
    """When the picture was taken."""
    object_type: str
    confidence: float
    bbox_x: float
    bbox_y: float
    bbox_width: float
    bbox_height: float
    model: str
    model_version: str
    fallback: bool
    links: dict[str, str]


class DetectionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/detections."""

    detections: list[DetectionAnswer]
    count: int
    limit: int
    next_cursor: str | None


class EventDetections(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events/{id}/detections."""

    detections: list[DetectionAnswer]
    count: int


class PictureAnswer(PictureRow, frozen=True, kw_only=True):
    """A picture and how far it got."""

    links: dict[str, str]


class FileAnswer(FileRow, frozen=True, kw_only=True):
    """A file with its one ledger state and the reason for it."""

    links: dict[str, str]


class EventDetailAnswer(EventAnswer, frozen=True, kw_only=True):
    """GET /api/events/{id}: the event and its chain back to the files."""

    detection_count: int
    detection_ids: list[str]
    pictures: list[PictureAnswer]
    detections: list[DetectionAnswer]
    files: list[FileAnswer]


class FileDetailAnswer(FileAnswer, frozen=True, kw_only=True):
    """GET /api/files/{id}: where the file stands, why, and what came of it."""

    pictures: list[PictureAnswer]
    duplicates: list[FileAnswer]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """202: the command is in the log, but the read model does not show it yet."""

    status: Literal["recorded"]
    message: str
    location: str


class ServiceHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one service is."""

    status: Literal["healthy", "degraded", "unhealthy", "waiting", "unknown", "off"]
    message: str
    since: datetime | None = None
    details: "dict[str, ServiceHealth] | None" = None


class StageBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage still has to do."""

    stage: str
    pending: int
    """Not yet handed to a worker."""
    processing: int
    """Handed to a worker and not finished (retries wait here too)."""
    oldest_seconds: float | None
    """Age of the oldest entry that is not finished."""
    gate: Literal["open", "closed"] | None
    """closed: the stage pauses, `waits_for` is away. None: it needs no model, or none was told."""
    waits_for: str | None
    handled_per_second: float | None
    """Over the last minute; None until that is measured."""
    clears_in_seconds: float | None
    """When nothing will be left, at the rate of the last minute with what arrives; None when it
    pauses, does not shrink, or was not measured yet."""


class ProjectionLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a read model is behind the log."""

    projection: str
    lag_seconds: float
    behind: list[str]
    """Streams (with partition) whose end the read model has not reached."""


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/health; 503 when unhealthy, else 200."""

    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, ServiceHealth]
    stages: list[StageBacklog]
    projections: list[ProjectionLag]
    app_name: str
    version: str
    uptime_seconds: float
    timestamp: datetime


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A role that `hsi up` runs."""

    name: str
    running: bool
    message: str


class ReadyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /ready; 503 when not ready."""

    ready: bool
    status: Literal["ready", "degraded", "not_ready"]
    """degraded: requests are served, and a role that `hsi up` should run does not."""
    services: dict[str, ServiceHealth]
    workers: list[Worker]
    """Empty where nobody supervises: containers have supervisors of their own."""
    timestamp: datetime


class AliveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /health."""

    status: Literal["alive"]
    version: str


class GpuFields(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU at one moment, in the names of the specification; null is what nobody told."""

    gpu_name: str | None = None
    utilization: float | None = None
    memory_used: float | None = None
    """MiB."""
    memory_total: float | None = None
    temperature: float | None = None
    """Degrees Celsius."""
    power_usage: float | None = None
    """Watts."""


class GpuAnswer(GpuFields, frozen=True, kw_only=True):
    """GET /api/system/gpu: the first GPU's fields, and all GPUs of all hosts."""

    source: Literal["nvml", "none"]
    recorded_at: datetime | None
    memory_pressure: Literal["normal", "warning", "critical"] | None = None
    """Of the fullest GPU: warning from 85 %, critical from 95 % of its memory."""
    inference_fps: float | None = None
    """Pictures a second that the detect stage finished over the last minute."""
    gpus: list[GpuSampleRow]


class GpuHistorySample(GpuFields, frozen=True, kw_only=True):
    """One reading of the history."""

    recorded_at: datetime
    host: str
    gpu_index: int


class GpuHistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/gpu/history, oldest first."""

    samples: list[GpuHistorySample]
    count: int
    limit: int
    origin: Literal["database", "memory"]
    """memory: PostgreSQL is away, so only what this process has seen."""


class CameraCount(msgspec.Struct, frozen=True, kw_only=True):
    """Cameras that may send, and all that are not removed."""

    active: int
    total: int


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """Entries over all stages."""

    pending: int
    processing: int
    oldest_seconds: float | None
    clears_in_seconds: float | None
    """The slowest stage's; None when one stage's cannot be told."""
    paused_stages: list[str]


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What /ws/system tells every GPU poll; None is what could not be asked."""

    gpu: GpuAnswer
    cameras: CameraCount | None
    queue: QueueDepth | None
    stages: list[StageBacklog]
    health: Literal["healthy", "degraded", "unhealthy"]


class SystemMessage(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="system_status"
):
    """The system's state now; it has no cursor since it is no event."""

    TOPIC: ClassVar[str] = "system.status"
    data: SystemStatus
    timestamp: datetime
