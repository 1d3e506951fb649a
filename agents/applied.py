"""Tells the log which settings this process decides by, if they are not those told last."""

from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import urlsplit

from domain.events import SYSTEM, SettingsApplied
from domain.rule_weights import RULES_VERSION
from inference.prompts import load_prompt
from runtime.settings import Settings
from streams.deadletter import SERVICE_VERSION
from streams.log import EventLog
from streams.told import tell, told_positions

__all__ = ["DECIDING", "applied", "tell_settings", "told_positions"]

DECIDING: Final = frozenset({"watch", "detect", "batch", "assess", "refine"})
"""Roles whose results depend on settings."""


def applied(settings: Settings, at: datetime) -> SettingsApplied:
    """Return the settings that decide results; no secret and no address is among them."""
    return SettingsApplied(
        camera_id=SYSTEM,
        applied_at=at,
        detection_confidence_threshold=settings.detection_confidence_threshold,
        batch_window_seconds=settings.batch_window_seconds,
        batch_idle_timeout_seconds=settings.batch_idle_timeout_seconds,
        fast_path_confidence_threshold=settings.fast_path_confidence_threshold,
        fast_path_object_types=settings.fast_path_object_types,
        severity_low_max=settings.severity_low_max,
        severity_medium_max=settings.severity_medium_max,
        severity_high_max=settings.severity_high_max,
        camera_timezone=settings.camera_timezone,
        dedupe_ttl_seconds=settings.dedupe_ttl_seconds,
        video_frame_interval_seconds=settings.video_frame_interval_seconds,
        video_max_frames=settings.video_max_frames,
        detector=_detector(settings.rtdetr_url),
        risk_model="none" if settings.nemotron_url is None else "llama-server",
        rules_version=RULES_VERSION,
        prompt_version=load_prompt().version,
        software_version=SERVICE_VERSION,
        late_alert_max_age_seconds=settings.late_alert_max_age_seconds,
    )


async def tell_settings(log: EventLog, settings: Settings) -> bool:
    """Append `settings.applied` unless the same was told last; answer whether it was appended."""
    return await tell(log, applied(settings, datetime.now(UTC)))


def _detector(url: str | None) -> Literal["embedded", "http", "triton"]:
    if url is None:
        return "embedded"
    return "triton" if urlsplit(url).scheme.startswith("grpc") else "http"
