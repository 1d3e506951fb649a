"""Composition root of the agents: settings → clients → adapters → channels → agents → run.

Each role imports what it needs when it is put together, so that a process that only projects does
not carry a detector's libraries in memory.
"""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from agents.cameras import LogCameraDirectory
from agents.faust_app import make_app
from agents.opening import open_patiently
from agents.ready import say_ready
from agents.services import ServiceWatch
from agents.settings import SettingsFollower
from domain.batching import BatchPolicy
from domain.enrichment import GROUP_OF
from domain.errors import HsiError
from domain.outcomes import Done
from domain.risk import Bands
from inference.pictures import PictureStore
from runtime.logs import set_log_level
from runtime.settings import Settings
from streams.channel import ChannelOptions, Handler, StreamChannel, each
from streams.live_settings import LiveSettings
from streams.log import EventLog

ROLES = (
    "watch",
    "detect",
    "batch",
    "assess",
    "refine",
    "enrich",
    "trial",
    "monitor",
    "project",
    "retention",
)
REFINE_LANES = {"refine_first": True, "refine": False}
"""Consumer group → whether it is the lane that goes first; decision 0006."""
QUESTIONS_AT_ONCE = 2
"""Questions to the language model that one process asks at the same time."""

Side = Callable[[asyncio.Event], Awaitable[None]]


@dataclass
class Roles:
    """What one process runs, as it is put together."""

    settings: Settings
    log: EventLog
    app: Any
    cameras: LogCameraDirectory
    contexts: AsyncExitStack
    live: LiveSettings
    consumer: str = field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    sides: dict[str, Side] = field(default_factory=dict)
    """Named background tasks; one that ends unasked ends the process."""
    producers: set[str] = field(default_factory=set)
    channels: list[StreamChannel] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        """Return the cameras' time zone."""
        return ZoneInfo(self.settings.camera_timezone)

    @property
    def bands(self) -> Bands:
        """Return the highest score of each level."""
        s = self.settings
        return Bands(s.severity_low_max, s.severity_medium_max, s.severity_high_max)

    def pictures(self) -> PictureStore:
        """Return the store of the cameras' pictures and the frames taken out of videos."""
        return PictureStore(self.settings.foscam_base_path, self.settings.state_dir / "frames")

    def channel(self, group: str, options: ChannelOptions) -> StreamChannel:
        """Open the channel that feeds a role."""
        channel = StreamChannel(self.app, self.log, group, self.consumer, options)
        self.channels.append(channel)
        self.sides[f"{group} channel"] = channel.watch
        return channel

    def agent(self, name: str, options: ChannelOptions, handler: Handler) -> None:
        """Let a faust agent answer one outcome for each entry of its stream."""
        channel = self.channel(name, options)

        async def runs(stream: Any) -> None:  # noqa: ANN401 - faust's stream
            async for run in stream:
                await channel.handle(run, handler)

        self.app.agent(channel.runs, name=f"hsi.{name}", concurrency=options.concurrency)(runs)


def add_watch(roles: Roles) -> None:
    """Camera folders → image.received."""
    from agents.finder import WatchOptions
    from agents.intake import IntakeRules
    from agents.watch import Watch

    s = roles.settings
    rules = IntakeRules(
        dedupe_ttl_seconds=s.dedupe_ttl_seconds,
        camera_zone=roles.zone,
        video_frame_interval_seconds=s.video_frame_interval_seconds,
        video_max_frames=s.video_max_frames,
    )
    options = WatchOptions(
        polling=s.file_watcher_polling, polling_interval_seconds=s.file_watcher_polling_interval
    )
    watch = Watch(roles.log, roles.pictures(), roles.cameras, rules=rules, options=options)
    roles.sides["watch"] = watch.run
    roles.producers.add("watch")


def add_detect(roles: Roles) -> None:
    """image.received → objects.detected."""
    from agents.detect import Detect
    from agents.trying import detector_options, open_canary
    from inference.detectors import open_detector

    s = roles.settings
    detector = open_detector(s.rtdetr_url, detector_options(s))
    roles.contexts.push_async_callback(detector.close)

    async def check() -> str:
        identity = await detector.check()
        note = " (offline fall-back, not RT-DETRv2)" if identity.fallback else ""
        return f"{identity.model} {identity.version} by {identity.engine}{note}"

    watch = ServiceWatch(roles.log, "detector", check)
    roles.sides["detector check"] = watch.run
    reading = ChannelOptions(
        run_size=detector.max_batch, concurrency=2, on_state=watch.gate_of("detect")
    )
    threshold = s.detection_confidence_threshold
    canary = open_canary(s, roles.contexts)
    handler = Detect(detector, roles.pictures(), roles.cameras, threshold, canary)

    def take_over(settings: Settings) -> None:
        handler.threshold = settings.detection_confidence_threshold
        if canary is not None:
            canary.percent = settings.candidate_percent

    roles.live.on_change(take_over)
    roles.agent("detect", reading, handler)


def add_batch(roles: Roles) -> None:
    """objects.detected → batch.closed, batch.escalated; alone on each partition."""
    from agents.batch import TICK_SECONDS, Batch

    s = roles.settings
    policy = BatchPolicy(
        window=timedelta(seconds=s.batch_window_seconds),
        idle=timedelta(seconds=s.batch_idle_timeout_seconds),
        fast_path_labels=frozenset(s.fast_path_object_types),
        fast_path_score=s.fast_path_confidence_threshold,
        zone=roles.zone,
    )
    batch = Batch(roles.log, policy, archive_dir=s.archive_folder)
    channel = roles.channel("batch", ChannelOptions(on_owned=batch.on_owned))

    async def runs(stream: Any) -> None:  # noqa: ANN401 - faust's stream
        async for run in stream:
            await batch.handle(channel, run)

    async def tick() -> None:
        await batch.tick(channel)

    roles.app.agent(channel.runs, name="hsi.batch")(runs)
    roles.app.timer(TICK_SECONDS)(tick)


def add_assess(roles: Roles) -> None:
    """batch.closed, batch.escalated → risk.assessed, by rules alone."""
    from agents.assess import Assess

    roles.agent("assess", ChannelOptions(), each(Assess(roles.cameras, roles.zone, roles.bands)))


def add_refine(roles: Roles) -> None:
    """risk.assessed → assessment.refined, by the language model."""
    from agents.refine import Lane, Refine
    from agents.turns import Turns
    from inference.llm import LlamaRiskModel, Timeouts

    s = roles.settings
    if s.nemotron_url is None:
        # Without a model nothing waits for one: the events stand by their rules alone.
        async def pass_by(envelopes: Sequence[Any]) -> list[Done]:
            return [Done()] * len(envelopes)

        for group in REFINE_LANES:
            roles.agent(group, ChannelOptions(), pass_by)
        return
    key = s.nemotron_api_key.get_secret_value() if s.nemotron_api_key else None
    timeouts = Timeouts(s.ai_connect_timeout, s.nemotron_read_timeout, s.ai_health_timeout)
    model = LlamaRiskModel(s.nemotron_url, api=s.nemotron_api, api_key=key, timeouts=timeouts)
    roles.contexts.push_async_callback(model.close)
    watch = ServiceWatch(roles.log, "risk_model", model.check)
    roles.sides["risk model check"] = watch.run
    turns = Turns(QUESTIONS_AT_ONCE)
    for group, first in REFINE_LANES.items():
        options = ChannelOptions(
            run_size=1, concurrency=QUESTIONS_AT_ONCE, on_state=watch.gate_of(group)
        )
        lane = Lane(first, turns)
        handler = Refine(model, roles.cameras, roles.bands, roles.log, lane)
        roles.agent(group, options, each(handler))


def add_enrich(roles: Roles) -> None:
    """batch.closed → event.captioned, objects.embedded, objects.described; optional."""
    from agents.enriching import open_parts

    parts = open_parts(roles.settings, roles.pictures(), roles.contexts)
    if not parts:
        raise HsiError("the role enrich needs FLORENCE_URL, CLIP_URL or ENRICHMENT_URL")
    for service, handler in parts.items():
        group = GROUP_OF[service]
        watch = ServiceWatch(roles.log, service, handler.check)
        roles.sides[f"{service} check"] = watch.run
        options = ChannelOptions(run_size=1, on_state=watch.gate_of(group))
        roles.agent(group, options, each(handler))


def add_trial(roles: Roles) -> None:
    """Compare candidates with what is in service; withdraw a detector that breaks a limit."""
    from agents.trial_guard import TrialGuard
    from agents.trying import limits_of, open_prompt_trial, open_trial

    s = roles.settings
    if not s.trial_groups:
        raise HsiError("the role trial needs CANDIDATE_RTDETR_URL or CANDIDATE_PROMPT")
    one = ChannelOptions(run_size=1)
    if s.candidate_rtdetr_url:
        trial = open_trial(s, s.candidate_rtdetr_url, roles.pictures(), roles.contexts)
        roles.agent("trial_detector", one, each(trial))
        roles.sides["trial guard"] = TrialGuard(roles.log, roles.live, limits_of(s)).run
    if "trial_prompt" in s.trial_groups:
        asks = open_prompt_trial(s, roles.log, roles.cameras, roles.bands, roles.contexts)
        roles.agent("trial_prompt", one, each(asks))


def add_monitor(roles: Roles) -> None:
    """GPU readings → gpu.sampled."""
    from agents.monitor import Monitor, MonitorSettings
    from inference.gpu import open_gpu_probe

    settings = MonitorSettings(socket.gethostname(), roles.settings.gpu_poll_interval_seconds)
    monitor = Monitor(roles.log, open_gpu_probe, settings)

    def take_over(settings: Settings) -> None:
        monitor.interval_seconds = settings.gpu_poll_interval_seconds

    roles.live.on_change(take_over)
    roles.sides["monitor"] = monitor.run
    roles.producers.add("monitor")


def add_project(roles: Roles) -> None:
    """All events → read models."""
    from agents.project import Project

    dsn = roles.settings.database_dsn
    if dsn is None:
        raise HsiError("the role project needs DATABASE_URL")
    roles.sides["project"] = Project(roles.log, dsn, archive_dir=roles.settings.archive_folder).run


def add_retention(roles: Roles) -> None:
    """Once a day: delete what is too old, archive and trim the log."""
    from agents.project import read_models
    from agents.retention import Days, run_retention
    from projections.upkeep import UpkeepOptions

    s = roles.settings
    dsn = s.database_dsn
    if dsn is None:
        raise HsiError("the role retention needs DATABASE_URL")
    options = UpkeepOptions(read_models(), s.archive_folder, s.stream_keep_hours)
    roles.sides["retention"] = run_retention(
        roles.log,
        dsn,
        roles.pictures(),
        options,
        days=Days(lambda: roles.live.current.retention_days, s.log_retention_days),
        zone=roles.zone,
    )
    roles.producers.add("retention")


_ADD: dict[str, Callable[[Roles], None]] = {
    "watch": add_watch,
    "detect": add_detect,
    "batch": add_batch,
    "assess": add_assess,
    "refine": add_refine,
    "enrich": add_enrich,
    "trial": add_trial,
    "monitor": add_monitor,
    "project": add_project,
    "retention": add_retention,
}


async def run_roles(settings: Settings, names: Sequence[str]) -> None:
    """Run the named roles in this process until SIGTERM or SIGINT, then drain.

    Raises HsiError for an unknown role, and the error of a background task that ended unasked.
    """
    if unknown := sorted(set(names) - set(ROLES)):
        raise HsiError(f"there is no role {', '.join(unknown)}; roles are {', '.join(ROLES)}")
    stop = _stop_on_signals()
    async with AsyncExitStack() as contexts:
        opened = await open_patiently(settings, names, stop)
        if opened is None:
            return
        log, cameras = opened
        contexts.push_async_callback(log.close)
        follower = SettingsFollower(log, settings)
        if not await follower.open(stop):
            return
        live = follower.live
        roles = Roles(live.current, log, make_app("hsi"), cameras, contexts, live)
        live.on_change(set_log_level)
        roles.sides["settings"] = follower.run
        roles.sides["camera directory"] = cameras.run
        for name in names:
            _ADD[name](roles)
        await _run(roles, names, stop)


async def _run(roles: Roles, names: Sequence[str], stop: asyncio.Event) -> None:
    """Start agents, channels, producers; stop producers, channels, agents, then the rest."""
    producers_stop, sides_stop = asyncio.Event(), asyncio.Event()
    roles.app.finalize()
    await roles.app.start()
    roles.app.flow_control.resume()
    for channel in roles.channels:
        await channel.start()
    tasks = {
        asyncio.create_task(
            _named(side, producers_stop if name in roles.producers else sides_stop), name=name
        )
        for name, side in roles.sides.items()
    }
    say_ready(names)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        producers_stop.set()
        await _finished(tasks, roles.producers)
        for channel in roles.channels:
            await channel.stop()
        await roles.app.stop()
        sides_stop.set()
        await _finished(tasks, set(roles.sides))
        for task in done - {stopped}:
            task.result()
            raise HsiError(f"the task {task.get_name()!r} ended unasked")
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)


async def _named(side: Side, stop: asyncio.Event) -> None:
    await side(stop)


async def _finished(tasks: set[asyncio.Task[None]], names: set[str]) -> None:
    """Wait a bounded time for the named tasks to end by themselves."""
    waited = [task for task in tasks if task.get_name() in names]
    if waited:
        await asyncio.wait(waited, timeout=10.0)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
