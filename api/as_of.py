"""State as of a time: what the log's entries recorded until then say."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from api.lineage_facts import entry_of
from api.lineage_schemas import Entry, Fact
from domain.cameras import CameraState, evolve
from domain.events import ServiceStateChanged, ServiceStatus, SettingsApplied
from domain.rule_weights import RULES_VERSION
from projections.lineage_queries import recorded_until
from projections.positions import SETTINGS, service
from projections.queries import Queries
from streams.envelope import START, Envelope
from streams.log import EventLog
from streams.lookup import Lookup, Past

READ_RUN = 2000
SERVICES = ("detector", "risk_model")


class AsOfQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/as-of?at=…&what=…."""

    at: datetime
    what: Literal["cameras", "settings", "rules"]


class CamerasAsOf(Fact, frozen=True, kw_only=True):
    """Every camera as it was known then, removed ones included."""

    at: datetime
    cameras: list[CameraState]
    count: int


class ServiceAsOf(Fact, frozen=True, kw_only=True):
    """What a service had said of itself last; healthy ones name their model."""

    service: str
    status: ServiceStatus
    message: str
    changed_at: datetime
    entry: Entry


class SettingsAsOf(Fact, frozen=True, kw_only=True):
    """The settings in force then; null before the first were recorded."""

    at: datetime
    settings: SettingsApplied | None
    services: list[ServiceAsOf]
    entry: Entry | None


class RulesAsOf(Fact, frozen=True, kw_only=True):
    """What turned pictures into a score and a level then."""

    at: datetime
    rules_version: str | None
    prompt_version: str | None
    levels: dict[str, str]
    """Level → the scores it covered."""
    fast_path: str | None
    entry_points: list[str]
    """Cameras that looked at a way into the house."""
    rules_version_now: str
    entry: Entry | None


class AsOfReader:
    """Answers what was known, or in force, at a time."""

    def __init__(self, queries: Queries, log: EventLog, lookup: Lookup, past: Past) -> None:
        self._queries = queries
        self._log = log
        self._lookup = lookup
        self._past = past

    async def cameras(self, at: datetime) -> CamerasAsOf:
        """Fold the `cameras` stream up to `at`."""
        found = [
            c for p in range(self._log.partitions) for c in (await self._fold(p, at)).values()
        ]
        found.sort(key=lambda camera: (camera.name, camera.id))
        return CamerasAsOf(at=at, cameras=found, count=len(found))

    async def _fold(self, partition: int, at: datetime) -> Mapping[str, CameraState]:
        until = recorded_until(at)
        cameras: dict[str, CameraState] = {}
        async for run in self._past.read_all("cameras", partition, START, count=READ_RUN):
            for envelope in run:
                if envelope.position.ms > until:
                    return cameras
                cameras = evolve(cameras, envelope.event, envelope.recorded_at)
        return cameras

    async def settings(self, at: datetime) -> SettingsAsOf:
        """Return the settings told last until `at`, and what the models' services had said."""
        told = await self._last(SETTINGS, at)
        services = [await self._last(service(name), at) for name in SERVICES]
        return SettingsAsOf(
            at=at,
            settings=_settings(told),
            services=[said for each in services if (said := _service(each)) is not None],
            entry=entry_of(told) if told else None,
        )

    async def rules(self, at: datetime) -> RulesAsOf:
        """Return the rules' version and all they go by."""
        told = await self._last(SETTINGS, at)
        settings = _settings(told)
        cameras = (await self.cameras(at)).cameras
        return RulesAsOf(
            at=at,
            rules_version=settings.rules_version if settings else None,
            prompt_version=settings.prompt_version if settings else None,
            levels=_levels(settings) if settings else {},
            fast_path=_fast_path(settings) if settings else None,
            entry_points=[c.id for c in cameras if c.entry_point and c.removed_at is None],
            rules_version_now=RULES_VERSION,
            entry=entry_of(told) if told else None,
        )

    async def _last(self, subject: str, at: datetime) -> Envelope | None:
        place = await self._queries.last_place(subject, at)
        if place is None:
            return None
        return (await self._lookup.find([place])).entries.get(place)


def _settings(told: Envelope | None) -> SettingsApplied | None:
    return told.event if told and isinstance(told.event, SettingsApplied) else None


def _service(told: Envelope | None) -> ServiceAsOf | None:
    if told is None or not isinstance(told.event, ServiceStateChanged):
        return None
    return ServiceAsOf(
        service=told.event.service,
        status=told.event.status,
        message=told.event.message,
        changed_at=told.event.changed_at,
        entry=entry_of(told),
    )


def _levels(settings: SettingsApplied) -> dict[str, str]:
    low, medium, high = (
        settings.severity_low_max,
        settings.severity_medium_max,
        settings.severity_high_max,
    )
    return {
        "low": f"0–{low}",
        "medium": f"{low + 1}–{medium}",
        "high": f"{medium + 1}–{high}",
        "critical": f"{high + 1}–100",
    }


def _fast_path(settings: SettingsApplied) -> str:
    labels = ", ".join(settings.fast_path_object_types) or "nothing"
    return f"{labels} from {settings.fast_path_confidence_threshold:.2f} on"
