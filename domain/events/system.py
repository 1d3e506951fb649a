"""Stream `system`: the house itself: GPU, services, settings, retention."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Event, Moment

ServiceStatus = Literal["healthy", "unhealthy", "waiting"]


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
    """detector, risk_model, or an optional one: florence, clip, enrichment."""
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


SettingValue = bool | int | float | str | tuple[str, ...]


class ConfigChanged(Event, frozen=True, kw_only=True):
    """Somebody changed a setting that takes effect in running processes."""

    TAG: ClassVar[str] = "config.changed"
    STREAM: ClassVar[str] = "system"

    changed_at: Moment
    actor: str
    """Who asked for it."""
    setting: str
    """Name of the variable, like BATCH_WINDOW_SECONDS."""
    old: SettingValue
    new: SettingValue
    """What counts from now on where it was asked for."""
    reset: bool = False
    """True when it goes back to what each process's own layers say."""
    reason: str = ""
    """Why, where no person asked for it."""

    @property
    def occurred_at(self) -> datetime:
        return self.changed_at


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
