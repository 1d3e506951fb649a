"""Tells the log which settings this process decides by, if they are not those told last."""

from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from domain.events import SYSTEM, SettingsApplied
from domain.ids import follow_up_id
from domain.prompt import PROMPT_VERSION
from domain.risk_rules import RULES_VERSION
from runtime.settings import Settings
from streams.deadletter import SERVICE_VERSION
from streams.envelope import NewEvent
from streams.log import EventLog

DECIDING: Final = frozenset({"watch", "detect", "batch", "assess", "refine"})
"""Roles whose results depend on settings."""

_ROLE: Final = "settings"


class _Told(msgspec.Struct, frozen=True):
    """What was told last, and the id of the entry that told it."""

    id: str
    content: str


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
        prompt_version=PROMPT_VERSION,
        software_version=SERVICE_VERSION,
    )


async def tell_settings(log: EventLog, settings: Settings) -> bool:
    """Append `settings.applied` unless the same was told last; answer whether it was appended.

    What was told last is kept beside the log. A process that dies between the two writes, and
    several that start at once, append it once all the same: its id follows from the last one's.
    """
    event = applied(settings, datetime.now(UTC))
    partition = log.partition_of(SYSTEM)
    stored = await log.load_snapshot(_ROLE, partition)
    last = _last(stored)
    content = _content(event)
    if content == last.content:
        return False
    new_id = follow_up_id(f"{last.id}/{content}", event.TAG)
    await log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
    await log.store_snapshot(_ROLE, partition, msgspec.json.encode(_Told(new_id, content)))
    return True


def _last(stored: bytes | None) -> _Told:
    try:
        return msgspec.json.decode(stored, type=_Told) if stored else _Told("", "")
    except msgspec.MsgspecError:
        # Another version wrote it: the settings are told once more, which harms nobody.
        return _Told("", "")


def _content(event: SettingsApplied) -> str:
    """Return what must differ for the settings to be others: all but the time."""
    values = msgspec.to_builtins(event)
    del values["applied_at"]
    return msgspec.json.encode(values, order="sorted").decode()


def _detector(url: str | None) -> Literal["embedded", "http", "triton"]:
    if url is None:
        return "embedded"
    return "triton" if urlsplit(url).scheme.startswith("grpc") else "http"
