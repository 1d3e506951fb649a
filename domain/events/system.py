"""Stream `system`: the house itself: GPU, services, settings, retention."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Event, Moment

ServiceStatus = Literal[
    "healthy", "unhealthy", "waiting", "starting", "running", "stopped", "disabled", "failed"
]
"""The first three are of services that a stage depends on, the others of those `hsi up` runs."""

ServiceAction = Literal["restart", "start", "stop", "enable", "disable"]


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


class ProcessFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a supervisor knows of a service that it runs itself."""

    process: str
    """The process in which the service runs; several may share one."""
    host: str
    enabled: bool = True
    """False: it is not started, by the next `hsi up` neither, until somebody enables it."""
    failure_count: int = 0
    """How often it ended unasked, on end."""
    restart_count: int = 0
    """Since this `hsi up` began, asked for or not."""
    last_restart_at: Moment | None = None
    started_at: Moment | None = None
    by: str = ""
    """Who stopped or disabled it."""
    fixed: str = ""
    """Why it cannot be controlled, where it cannot."""
    answers: str = ""
    """Id of the request that this is the answer to."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which model a service said to be; None is what nobody told."""

    model: str
    version: str | None = None
    engine: str | None = None
    fallback: bool = False
    sha256: str | None = None
    """Of the model's file, where it lies beside the telling process and came with a manifest."""

    @property
    def line(self) -> str:
        """Return the model in one line, for people."""
        named = " ".join(filter(None, (self.model, self.version)))
        by = f" by {self.engine}" if self.engine else ""
        return named + by + (" (offline fall-back, not RT-DETRv2)" if self.fallback else "")


class ServiceStateChanged(Event, frozen=True, kw_only=True):
    """A service went away or came back: one that a stage depends on, or that `hsi up` runs."""

    TAG: ClassVar[str] = "service.state_changed"
    STREAM: ClassVar[str] = "system"

    service: str
    """detector, risk_model, or an optional one: florence, clip, enrichment; or a role."""
    status: ServiceStatus
    message: str
    changed_at: Moment
    paused_stages: tuple[str, ...] | None = None
    """Stages of the telling process that pause because of it; None in events of before this."""
    process: ProcessFacts | None = None
    """None for a service that the telling process does not run."""
    model: ModelFacts | None = None
    """Which model answered the last check that was answered; None: it is no model, or none was."""

    @property
    def occurred_at(self) -> datetime:
        return self.changed_at


class ServiceControlRequested(Event, frozen=True, kw_only=True):
    """Somebody asked the supervisor to do something to a service that it runs."""

    TAG: ClassVar[str] = "service.control_requested"
    STREAM: ClassVar[str] = "system"

    service: str
    action: ServiceAction
    actor: str
    requested_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.requested_at


class BreakerResetRequested(Event, frozen=True, kw_only=True):
    """Somebody asked that a stage which waits for its service tries it now."""

    TAG: ClassVar[str] = "circuit_breaker.reset_requested"
    STREAM: ClassVar[str] = "system"

    stage: str
    actor: str
    requested_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.requested_at


BreakerTried = Literal["passed", "failed", "pending", "was_closed"]
"""What came of the try: `pending`, nothing yet; `was_closed`, there was nothing to reset (as
breakers are read, a closed one lets work through)."""


class BreakerReset(Event, frozen=True, kw_only=True):
    """A process has reset its breaker of a stage: waits begin anew, and the service was tried."""

    TAG: ClassVar[str] = "circuit_breaker.reset"
    STREAM: ClassVar[str] = "system"

    stage: str
    process: str
    """Which consumer of the stage did it; others have breakers of their own."""
    tried: BreakerTried
    reset_at: Moment
    answers: str
    """Id of the request that this is the answer to."""

    @property
    def occurred_at(self) -> datetime:
        return self.reset_at


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
    late_alert_max_age_seconds: int | None = None
    """None in events of software that knew no such limit."""

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
    logs_deleted: int = 0
    clips_deleted: int = 0

    @property
    def occurred_at(self) -> datetime:
        return self.finished_at
