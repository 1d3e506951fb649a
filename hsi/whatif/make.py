"""Puts a run together: log, settings of the time, cameras, models; then runs and compares it."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo

from agents.applied import told_positions
from agents.cameras import LogCameraDirectory
from domain.errors import HsiError
from domain.prompt import Prompt
from domain.risk import CameraView
from domain.rule_weights import Rules
from domain.whatif import Knobs, Tunables
from hsi.camera_folder import pictures_of
from hsi.whatif.folder import Asked, Plan, RunFolder
from hsi.whatif.known import known_events
from hsi.whatif.models import ModelSay, Redetector
from hsi.whatif.recorded import Span
from hsi.whatif.result import CHANGES, FOUND, Comparison, Result, sort_changes
from hsi.whatif.run import Changed, Progress, World, read_recorded
from hsi.whatif.wishes import (
    DETECTOR,
    RISK_MODEL,
    shown_settings,
    shown_trials,
    span_of,
    tunables_of,
    with_changes,
)
from inference.detectors import DetectorOptions, open_detector
from runtime.embedded import AlreadyRunningError, EmbeddedServers
from runtime.embedded.folders import Folders
from runtime.settings import Settings
from streams.envelope import Envelope
from streams.history import History
from streams.log import EventLog
from streams.replay import Bounds, Timeline, cameras_told, settings_told

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """One run as the command line ordered it."""

    asked: Asked
    chosen: Mapping[str, str]
    settings: Settings
    changed: Settings
    rules: Rules | None = None
    """None: those of now."""
    prompt: Prompt | None = None
    """None: the one in service."""


@contextmanager
def log_url(settings: Settings) -> Iterator[str]:
    """Give the URL of the log: REDIS_URL, a running `hsi up`'s, or one started for the while."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    try:
        servers = EmbeddedServers.start(settings.state_dir, want_postgres=False)
    except AlreadyRunningError:
        folders = Folders.prepare(settings.state_dir)
        yield f"unix://:{folders.secret()}@{quote(str(folders.sockets / 'valkey.sock'))}"
        return
    try:
        yield servers.redis_url or ""
    finally:
        servers.stop()


async def make(order: Order, folder: RunFolder, url: str, progress: Progress) -> Result:
    """Run, or go on with, or only load a run; returns its result.

    The changes it counts lie in the folder by then: `hsi.whatif.result.Changes` reads them.
    """
    stored = folder.load("result", Result)
    if stored is not None and folder.path_of(CHANGES).exists():
        _check_same(folder, stored.asked, order.asked)
        return stored
    began = time.perf_counter()
    async with AsyncExitStack() as contexts:
        log = await contexts.enter_async_context(_opened(url, order.settings))
        history = History(log, order.settings.archive_folder)
        cameras = await _Cameras.read(history, log)
        plan = await _plan(order, folder, log, cameras)
        told = await _told(history, log, order.settings, _ends(plan))
        world = await _world(order, history, told, cameras, contexts)
        with folder.segment(FOUND) as found:
            pictures = 0
            comparison = Comparison(folder, found)
            for partition in range(log.partitions):
                pictures += await _part(folder, plan, world, partition, comparison, progress)
    sort_changes(folder)
    within = [tunables for _, tunables in told.within(*_ends(plan))]
    result = Result(
        name=folder.name,
        asked=order.asked,
        span=plan.span,
        settings=(
            *shown_settings(within, order.settings, order.changed, order.chosen),
            *shown_trials(order.rules, order.prompt, comparison),
        ),
        notes=tuple(_notes(plan, told, world)),
        pictures=pictures,
        events_before=comparison.events_before,
        events_after=comparison.events_after,
        same=comparison.same,
        unfinished=comparison.unfinished,
        counts=comparison.counts,
        seconds=round(time.perf_counter() - began, 3),
    )
    folder.store("result", result)
    return result


async def _part(
    folder: RunFolder,
    plan: Plan,
    world: World,
    partition: int,
    comparison: Comparison,
    progress: Progress,
) -> int:
    """Do one partition; return how many pictures it had."""
    summary = await read_recorded(folder, plan, world, partition)
    before, known = f"recorded-{partition}", None
    if world.refiner is not None:
        before, known = known_events(folder, partition)
    with contextlib.closing(known) if known else contextlib.nullcontext():
        changed = Changed(plan, world, partition, summary, known or {}, progress)
        pictures = await changed.run(folder)
    comparison.compare(before, f"changed-{partition}", summary)
    return pictures


class _Cameras:
    """How every camera was described, by the log's clock."""

    def __init__(self, log: EventLog) -> None:
        self._directory = LogCameraDirectory(log)
        self.views: dict[str, Timeline[CameraView]] = {}

    @classmethod
    async def read(cls, history: History, log: EventLog) -> "_Cameras":
        """Read the whole `cameras` stream."""
        cameras = cls(log)
        await cameras_told(history, log, cameras.take)
        return cameras

    def take(self, envelope: Envelope) -> None:
        """Take the next event of the stream."""
        camera = envelope.event.camera_id
        if camera not in self.views:
            self.views[camera] = Timeline()
            self.views[camera].set(_EVER, CameraView(camera, entry_point=False))
        self._directory.apply(envelope)
        self.views[camera].set(envelope.recorded_at, self._directory.view(camera))

    def chosen(self, wanted: tuple[str, ...]) -> frozenset[str] | None:
        """Return the ids of the cameras that are called so, by id or name; None: all."""
        if not wanted:
            return None
        names = {camera: told.values()[-1].name for camera, told in self.views.items()}
        found = {c for c, name in names.items() if c in wanted or name in wanted}
        missing = [one for one in wanted if one not in found and one not in names.values()]
        if missing:
            raise HsiError(
                f"--cameras {', '.join(missing)}: there is no such camera; the log knows "
                f"{', '.join(sorted(names)) or 'none'}"
            )
        return frozenset(found)


@contextlib.asynccontextmanager
async def _opened(url: str, settings: Settings) -> AsyncIterator[EventLog]:
    # An embedded server's URL carries its password; the setting is for a REDIS_URL of one's own.
    mine = settings.redis_url is not None and settings.redis_password is not None
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    log = await EventLog.open(
        url, password=password if mine else None, partitions=settings.stream_partitions
    )
    try:
        yield log
    finally:
        await log.close()


async def _plan(order: Order, folder: RunFolder, log: EventLog, cameras: _Cameras) -> Plan:
    """Return the plan of the run's first start, or make it now."""
    if (stored := folder.load("plan", Plan)) is not None:
        _check_same(folder, stored.asked, order.asked)
        if stored.incarnation != log.incarnation:
            raise HsiError(
                f"the run {folder.name!r} was begun on another log ({stored.incarnation}, this "
                f"one is {log.incarnation}): choose another --name"
            )
        return stored
    asked, now = order.asked, datetime.now(UTC)
    zone = ZoneInfo(order.settings.camera_timezone)
    begin, end = span_of(asked.last, asked.begin, asked.end, now=now, zone=zone)
    plan = Plan(
        asked=asked,
        span=Span(begin=begin, end=end, cameras=cameras.chosen(asked.cameras)),
        incarnation=log.incarnation,
        bounds=[await Bounds.of(log, partition) for partition in range(log.partitions)],
        begun_at=now,
    )
    folder.store("plan", plan)
    return plan


def _check_same(folder: RunFolder, stored: Asked, asked: Asked) -> None:
    if stored != asked:
        raise HsiError(
            f"the run {folder.name!r} was begun with other options: repeat those, or choose "
            "another --name"
        )


async def _told(
    history: History, log: EventLog, settings: Settings, ends: tuple[datetime, datetime]
) -> Timeline[Tunables]:
    """Return the settings of the time as the log knows them, else those of now."""
    told: Timeline[Tunables] = Timeline()
    positions = await told_positions(log)
    applied = await settings_told(history, log, ends[1], positions)
    for since, one in applied.items():
        told.set(since, tunables_of(one))
    if not len(told):
        told.set(_NEVER, tunables_of(settings))
    return told


async def _world(
    order: Order,
    history: History,
    told: Timeline[Tunables],
    cameras: _Cameras,
    contexts: AsyncExitStack,
) -> World:
    knobs: Timeline[Knobs] = Timeline()
    for since, tunables in told.items():
        try:
            changed = with_changes(tunables, order.changed, order.chosen).knobs()
            knobs.set(since, replace(changed, rules=order.rules or changed.rules))
        except ValueError as error:
            raise HsiError(
                f"--set does not fit the other settings of the time: {error}"
            ) from error
    detectors = _detectors(order, contexts) if _any(order.chosen, DETECTOR) else None
    refiner = _refiner(order, knobs, cameras, contexts) if order.asked.refine else None
    return World(history, knobs, cameras.views, detectors, refiner)


def _any(chosen: Mapping[str, str], names: tuple[str, ...]) -> bool:
    return any(name in chosen for name in names)


def _detectors(order: Order, contexts: AsyncExitStack) -> Redetector:
    s = order.changed
    options = DetectorOptions(
        models_dir=s.models_dir,
        allow_fallback=not s.production,
        connect_timeout=s.ai_connect_timeout,
        read_timeout=s.rtdetr_read_timeout,
        health_timeout=s.ai_health_timeout,
        ca_path=s.ai_ca_path,
    )
    detector = open_detector(s.rtdetr_url, options)
    contexts.push_async_callback(detector.close)
    return Redetector(detector, pictures_of(order.settings))


def _refiner(
    order: Order, knobs: Timeline[Knobs], cameras: _Cameras, contexts: AsyncExitStack
) -> ModelSay:
    # Imported here: a run without a language model needs no HTTP client.
    from agents.asking import open_risk_model

    s = order.changed
    if s.nemotron_url is None:
        raise HsiError(
            "--refine needs a language model: set NEMOTRON_URL, or --set NEMOTRON_URL=…"
        )
    model = open_risk_model(s, s.nemotron_url, order.prompt)
    contexts.push_async_callback(model.close)
    changed = order.prompt is not None or _any(order.chosen, RISK_MODEL)
    return ModelSay(model, knobs, cameras.views, model_changed=changed)


def _ends(plan: Plan) -> tuple[datetime, datetime]:
    return plan.span.begin, max(bounds.handled for bounds in plan.bounds)


def _notes(plan: Plan, told: Timeline[Tunables], world: World) -> Iterator[str]:
    first = told.items()[0][0]
    if first == _NEVER:
        yield "The log holds no settings of the time; those of now were taken for it."
    elif first > plan.span.begin:
        yield (
            f"The log knows the settings since {first.isoformat(timespec='seconds')}; the first "
            "known ones were taken for the time before."
        )
    if isinstance(world.detectors, Redetector) and world.detectors.gone:
        yield (
            f"{world.detectors.gone} pictures cannot be read any more; their recorded boxes were "
            "taken."
        )
    if isinstance(world.refiner, ModelSay):
        yield f"The language model was asked {world.refiner.asked} times."
        if world.refiner.unusable:
            yield f"{world.refiner.unusable} events stand by the rules: no answer could be used."
