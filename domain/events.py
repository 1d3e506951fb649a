"""Every event: frozen, tagged, versioned structs with names in the past tense.

The tag and the version are what is stored; class names and modules may change freely. Times are
timezone-aware datetimes in UTC. Pixels are counted from the top left corner of the picture.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone; one without is refused when it is read."""

Level = Literal["low", "medium", "high", "critical"]
CapturedFrom = Literal["exif", "name", "mtime", "arrival"]
CloseReason = Literal["window", "idle", "full", "late"]
Stage = Literal["fast_path", "final"]
ServiceStatus = Literal["healthy", "unhealthy", "waiting"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An immutable fact about one camera; subclasses say which."""

    TAG: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    STREAM: ClassVar[str] = ""

    camera_id: str

    @property
    def occurred_at(self) -> datetime | None:
        """Return the event time: when it happened in front of the camera, if it did."""
        return None


class Box(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One object that a model saw: where (pixels from the top left), what, how sure (0 to 1)."""

    label: str
    score: float
    x: float
    y: float
    width: float
    height: float


# --- stream `files` -------------------------------------------------------------------------


class ImageReceived(Event, frozen=True, kw_only=True):
    """A whole picture lies in a camera's folder (or was taken out of a video there)."""

    TAG: ClassVar[str] = "image.received"
    STREAM: ClassVar[str] = "files"

    picture_id: str
    file_id: str
    path: str
    """Path of the file below FOSCAM_BASE_PATH, with `/`; bytes that are not UTF-8 are escaped."""
    uri: str
    """Where the picture's bytes are: `camera:<path>` or `frame:<file id>/<number>.jpg`."""
    sha256: str
    size_bytes: int
    width: int
    height: int
    captured_at: Moment
    captured_from: CapturedFrom
    frame: int = 0
    frame_offset_seconds: float | None = None

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class VideoReceived(Event, frozen=True, kw_only=True):
    """A whole video lies in a camera's folder; its frames follow as `image.received`."""

    TAG: ClassVar[str] = "video.received"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    duration_seconds: float
    frames: int
    captured_at: Moment
    captured_from: CapturedFrom

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class FileDuplicated(Event, frozen=True, kw_only=True):
    """The same bytes reached the same camera again within DEDUPE_TTL_SECONDS."""

    TAG: ClassVar[str] = "file.duplicated"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    sha256: str
    size_bytes: int
    duplicate_of: str
    """File id of the file whose bytes these are."""


class FileRejected(Event, frozen=True, kw_only=True):
    """A file that cannot become a picture, with the reason a person understands."""

    TAG: ClassVar[str] = "file.rejected"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    size_bytes: int
    reason: str
    """Stable code: empty, truncated, unsupported, too_large, outside, unreadable, bad_name …"""
    detail: str


# --- stream `detections` --------------------------------------------------------------------


class ObjectsDetected(Event, frozen=True, kw_only=True):
    """What a model saw in one picture: every box above the floor of 0.05, also when none."""

    TAG: ClassVar[str] = "objects.detected"
    STREAM: ClassVar[str] = "detections"

    picture_id: str
    file_id: str
    uri: str
    captured_at: Moment
    width: int
    height: int
    boxes: tuple[Box, ...]
    """By falling score. A box counts as a detection when its score reaches `threshold`."""
    threshold: float
    model: str
    model_version: str
    engine: str
    """Adapter that ran it: embedded, http or triton."""
    fallback: bool = False
    """True when the offline fall-back model ran instead of RT-DETRv2."""
    inference_ms: float

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class PictureFiltered(Event, frozen=True, kw_only=True):
    """A picture that goes no further on purpose, with the reason."""

    TAG: ClassVar[str] = "picture.filtered"
    STREAM: ClassVar[str] = "detections"

    picture_id: str
    file_id: str
    captured_at: Moment
    reason: str
    """Stable code: camera_disabled."""

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


# --- stream `batches` -----------------------------------------------------------------------


class BatchMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture of a batch with the detections that counted when it joined."""

    picture_id: str
    file_id: str
    uri: str
    captured_at: Moment
    width: int
    height: int
    detections: tuple[Box, ...]


class Baseline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is usual for this camera at this hour of the day, before this batch."""

    days_observed: int = 0
    """Earlier days on which this camera had a batch at all."""
    same_hour: int = 0
    """Of these, the days with the same kind of object within an hour of this time of day."""


class PictureBatched(Event, frozen=True, kw_only=True):
    """A picture with detections joined its camera's open batch (and opened it if it was first)."""

    TAG: ClassVar[str] = "picture.batched"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    member: BatchMember
    detected_at: Moment
    """When the log took in this picture's detections; the batch's deadlines count from it."""
    late: bool = False
    """True when it came too late for the open batch and is a batch of its own."""

    @property
    def occurred_at(self) -> datetime:
        return self.member.captured_at


class BatchEscalated(Event, frozen=True, kw_only=True):
    """A fast-path detection: assess what the open batch holds now, do not wait for its end."""

    TAG: ClassVar[str] = "batch.escalated"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    event_id: str
    started_at: Moment
    ended_at: Moment
    members: tuple[BatchMember, ...]
    trigger: Box
    baseline: Baseline

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class BatchClosed(Event, frozen=True, kw_only=True):
    """A batch is complete: these pictures are one event."""

    TAG: ClassVar[str] = "batch.closed"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    event_id: str
    started_at: Moment
    ended_at: Moment
    members: tuple[BatchMember, ...]
    reason: CloseReason
    is_fast_path: bool = False
    baseline: Baseline

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


# --- stream `assessments` -------------------------------------------------------------------


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing the rules looked at: what was found, what it added, and why, in words."""

    name: str
    value: str
    points: int
    why: str


class ObjectFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One kind of object in a batch: most seen in one picture, and the best score."""

    label: str
    most_at_once: int
    pictures: int
    best_score: float


class BatchFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the rules and the language model are told about a batch; nothing else reaches them."""

    objects: tuple[ObjectFact, ...]
    picture_count: int
    dwell_seconds: float
    """Seconds from the first to the last picture in which the main kind of object was seen."""
    local_time: str
    """Local time of the first picture at the camera, `YYYY-MM-DD HH:MM`, and its weekday."""
    part_of_day: str
    baseline: Baseline


class RiskAssessed(Event, frozen=True, kw_only=True):
    """The rules' deterministic score of a batch; stands at once and on its own."""

    TAG: ClassVar[str] = "risk.assessed"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    batch_id: str
    started_at: Moment
    ended_at: Moment
    stage: Stage
    """`fast_path`: the batch is still open; `final`: it is closed."""
    score: int
    level: Level
    floor: int
    """The language model can never move the score below this."""
    signals: tuple[Signal, ...]
    summary: str
    reasoning: str
    rules_version: str
    facts: BatchFacts
    picture_ids: tuple[str, ...]
    is_fast_path: bool = False
    close_reason: CloseReason | None = None

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class AssessmentRefined(Event, frozen=True, kw_only=True):
    """The language model's summary and reasoning, and its bounded move of the rules' score."""

    TAG: ClassVar[str] = "assessment.refined"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    batch_id: str
    ended_at: Moment
    stage: Stage
    rule_score: int
    model_score: int
    """What the model answered; evidence only."""
    score: int
    level: Level
    summary: str
    reasoning: str
    model: str
    prompt_version: str
    prompt_sha256: str
    raw_text: str
    tokens_in: int
    tokens_out: int
    seconds: float

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class EventReviewed(Event, frozen=True, kw_only=True):
    """A person looked at an event (or took that mark back), perhaps with a note."""

    TAG: ClassVar[str] = "event.reviewed"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    reviewed: bool | None = None
    """None leaves the mark as it is."""
    notes: str | None = None
    """None leaves the note as it is; an empty text removes it."""
    actor: str = "anonymous"


class EventHeld(Event, frozen=True, kw_only=True):
    """A person put an event under legal hold (or lifted it): retention passes it by."""

    TAG: ClassVar[str] = "event.held"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    held: bool
    actor: str = "anonymous"


class RetentionApplied(Event, frozen=True, kw_only=True):
    """What this camera saw before `cutoff` is shown no more, and its pictures are deleted.

    Holds for what was recorded before `as_of` and is not named as kept, whatever is replayed.
    """

    TAG: ClassVar[str] = "retention.applied"
    STREAM: ClassVar[str] = "assessments"

    cutoff: Moment
    as_of: Moment
    """When it was decided; names the run, over all cameras."""
    kept_event_ids: tuple[str, ...] = ()
    kept_picture_ids: tuple[str, ...] = ()
    kept_file_ids: tuple[str, ...] = ()
    events_deleted: int
    detections_deleted: int
    images_deleted: int
    space_reclaimed: int


# --- stream `cameras` -----------------------------------------------------------------------


class CameraRegistered(Event, frozen=True, kw_only=True):
    """A camera is known from now on: added by a person, or found as an unknown folder."""

    TAG: ClassVar[str] = "camera.registered"
    STREAM: ClassVar[str] = "cameras"

    name: str
    folder: str
    source: Literal["api", "folder"]
    enabled: bool = True
    entry_point: bool = False
    """True when the camera looks at a door, gate or window through which one gets in."""


class CameraUpdated(Event, frozen=True, kw_only=True):
    """A person changed a camera; None leaves a field as it is."""

    TAG: ClassVar[str] = "camera.updated"
    STREAM: ClassVar[str] = "cameras"

    name: str | None = None
    enabled: bool | None = None
    entry_point: bool | None = None
    confirmed: bool | None = None
    """True once a person has taken over a camera that was found as a folder."""


class CameraRemoved(Event, frozen=True, kw_only=True):
    """A person removed a camera; its history stays."""

    TAG: ClassVar[str] = "camera.removed"
    STREAM: ClassVar[str] = "cameras"


# --- stream `system` ------------------------------------------------------------------------

SYSTEM = "system"
"""The camera id under which events that belong to no camera are appended."""


class GpuReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU at one moment; None is what the driver did not tell."""

    index: int
    name: str | None = None
    utilization_percent: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class GpuSampled(Event, frozen=True, kw_only=True):
    """What NVML said about every GPU of this host; no GPU is an empty tuple, never a guess."""

    TAG: ClassVar[str] = "gpu.sampled"
    STREAM: ClassVar[str] = "system"

    host: str
    sampled_at: Moment
    source: Literal["nvml", "none"]
    gpus: tuple[GpuReading, ...] = ()

    @property
    def occurred_at(self) -> datetime:
        return self.sampled_at


class ServiceStateChanged(Event, frozen=True, kw_only=True):
    """A service that a stage depends on went away or came back."""

    TAG: ClassVar[str] = "service.state_changed"
    STREAM: ClassVar[str] = "system"

    service: str
    """detector or risk_model."""
    status: ServiceStatus
    message: str
    changed_at: Moment
    paused_stages: tuple[str, ...] | None = None
    """Stages of the telling process that pause because of it; None in events of before this."""

    @property
    def occurred_at(self) -> datetime:
        return self.changed_at


class SettingsApplied(Event, frozen=True, kw_only=True, omit_defaults=False):
    """A process of the pipeline started with these settings; told only when one has changed.

    Holds what decides results and is no secret. Which model answered is said by
    `service.state_changed`, and by every detection and refinement itself.
    """

    TAG: ClassVar[str] = "settings.applied"
    STREAM: ClassVar[str] = "system"

    applied_at: Moment
    detection_confidence_threshold: float
    batch_window_seconds: int
    batch_idle_timeout_seconds: int
    fast_path_confidence_threshold: float
    fast_path_object_types: tuple[str, ...]
    severity_low_max: int
    severity_medium_max: int
    severity_high_max: int
    camera_timezone: str
    dedupe_ttl_seconds: int
    video_frame_interval_seconds: float
    video_max_frames: int
    detector: Literal["embedded", "http", "triton"]
    """How the detector is reached."""
    risk_model: Literal["llama-server", "none"]
    """`none`: events stand by their rules alone."""
    rules_version: str
    prompt_version: str
    software_version: str

    @property
    def occurred_at(self) -> datetime:
        return self.applied_at


class RetentionFinished(Event, frozen=True, kw_only=True):
    """A retention run over all cameras is done: figures, and readings before `cutoff` are gone."""

    TAG: ClassVar[str] = "retention.finished"
    STREAM: ClassVar[str] = "system"

    cutoff: Moment
    as_of: Moment
    finished_at: Moment
    retention_days: int
    events_deleted: int
    detections_deleted: int
    gpu_stats_deleted: int
    images_deleted: int
    space_reclaimed: int

    @property
    def occurred_at(self) -> datetime:
        return self.finished_at


# --- stream `parked` ------------------------------------------------------------------------


class EntryParked(Event, frozen=True, kw_only=True):
    """An entry moved aside with its error so that its stream goes on."""

    TAG: ClassVar[str] = "entry.parked"
    STREAM: ClassVar[str] = "parked"

    source_stream: str
    position: str
    group: str
    event_id: str
    event_tag: str
    event_version: int
    payload: str
    """The entry's stored payload, byte for byte (bytes that are not UTF-8 are escaped)."""
    cause: str
    """Class of the error; parked entries are grouped by it."""
    error: str
    attempts: int
    service_version: str
    model: str | None = None
    """The model that refused it and its version, where one was asked."""
    model_version: str | None = None
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None


class EntryRedriven(Event, frozen=True, kw_only=True):
    """A parked entry was handed back to the group that parked it, to be handled again."""

    TAG: ClassVar[str] = "entry.redriven"
    STREAM: ClassVar[str] = "parked"

    parked_position: str
    """Where its `entry.parked` stands in this partition of `parked`."""
    group: str
    event_id: str
    """Envelope id of the entry, as in its `entry.parked`."""
    cause: str
    actor: str = "anonymous"
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None


class EntryDiscarded(Event, frozen=True, kw_only=True):
    """A person decided that a parked entry is not to be handled any more."""

    TAG: ClassVar[str] = "entry.discarded"
    STREAM: ClassVar[str] = "parked"

    parked_position: str
    group: str
    event_id: str
    cause: str
    actor: str = "anonymous"
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None


EVENT_TYPES: dict[str, type[Event]] = {
    kind.TAG: kind
    for kind in (
        ImageReceived,
        VideoReceived,
        FileDuplicated,
        FileRejected,
        ObjectsDetected,
        PictureFiltered,
        PictureBatched,
        BatchEscalated,
        BatchClosed,
        RiskAssessed,
        AssessmentRefined,
        EventReviewed,
        EventHeld,
        RetentionApplied,
        RetentionFinished,
        CameraRegistered,
        CameraUpdated,
        CameraRemoved,
        GpuSampled,
        ServiceStateChanged,
        SettingsApplied,
        EntryParked,
        EntryRedriven,
        EntryDiscarded,
    )
}


def to_builtins(event: Event) -> dict[str, Any]:
    """Return the event's payload as plain values, as it is stored."""
    value: dict[str, Any] = msgspec.to_builtins(event)
    return value
