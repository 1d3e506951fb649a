"""Composition root of the agents: settings → clients → adapters → channels → agents → run.

Each role imports what it needs when it is put together, so that a process that only projects does
not carry a detector's libraries in memory.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from agents.breakers import BreakerResets
from agents.faust_app import make_app
from agents.opening import open_patiently
from agents.roles import Roles, run_until_stopped, stop_on_signals
from agents.services import ServiceWatch
from agents.settings import SettingsFollower
from domain.batching import BatchPolicy
from domain.enrichment import GROUP_OF
from domain.errors import HsiError
from domain.events import ModelFacts
from domain.outcomes import Done
from runtime.heartbeat import beat
from runtime.logs import set_log_level
from runtime.priority import give_way
from runtime.settings import Settings
from runtime.tracing import open_exporter
from streams.channel import ChannelOptions, at_once, each

ROLES = (
    "watch",
    "detect",
    "batch",
    "assess",
    "refine",
    "enrich",
    "scene",
    "notify",
    "trial",
    "monitor",
    "project",
    "retention",
    "traces",
)
REFINE_LANES = {"refine_first": True, "refine": False}
"""Consumer group → whether it is the lane that goes first; decision 0006."""
GIVE_WAY = frozenset({"trial"})
"""Roles that take processor time only where others leave some, in a process without others."""
TRIAL_RUN = 4
"""Comparisons that are settled together: one that fails by its limit holds few others up."""
MESSAGES_AT_ONCE = 8
"""Messages of one run, sent at the same time; two runs are."""
QUESTIONS_AT_ONCE = 2
"""Questions to the language model that one process asks at the same time."""


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
    from agents.unverified import Unverified
    from inference.detectors import open_detector
    from inference.weights import detector_sha256

    s = roles.settings
    detector = open_detector(s.rtdetr_url, detector_options(s))
    roles.contexts.push_async_callback(detector.close)

    async def check() -> ModelFacts:
        identity = await detector.check()
        return identity.facts(None if s.rtdetr_url else detector_sha256(s.models_dir))

    watch = ServiceWatch(roles.log, "detector", check)
    roles.sides["detector check"] = watch.run
    unverified = Unverified(roles.log, roles.cameras)
    roles.sides["unverified"] = unverified.run
    on_state = unverified.beside(watch.gate_of("detect"))
    reading = ChannelOptions(
        run_size=detector.max_batch, concurrency=2, on_state=on_state, answered=watch.answered
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

    max_age = roles.settings.late_alert_max_age_seconds
    handler = Assess(roles.cameras, roles.zone, roles.bands, max_age)
    roles.agent("assess", ChannelOptions(), each(handler))


def add_refine(roles: Roles) -> None:
    """risk.assessed → assessment.refined, by the language model."""
    from agents.asking import open_risk_model
    from agents.refine import Lane, Refine
    from agents.trying_prompts import open_prompt_canary
    from agents.turns import Turns

    s = roles.settings
    if s.nemotron_url is None:
        # Without a model nothing waits for one: the events stand by their rules alone.
        async def pass_by(envelopes: Sequence[Any]) -> list[Done]:
            return [Done()] * len(envelopes)

        for group in REFINE_LANES:
            roles.agent(group, ChannelOptions(), pass_by)
        return
    model = open_risk_model(s, s.nemotron_url)
    roles.contexts.push_async_callback(model.close)
    watch = ServiceWatch(roles.log, "risk_model", model.check)
    roles.sides["risk model check"] = watch.run
    turns = Turns(QUESTIONS_AT_ONCE)
    canary = open_prompt_canary(roles.live, roles.contexts)
    for group, first in REFINE_LANES.items():
        options = ChannelOptions(
            run_size=1,
            concurrency=QUESTIONS_AT_ONCE,
            on_state=watch.gate_of(group),
            answered=watch.answered,
        )
        lane = Lane(first, turns)
        handler = Refine(model, roles.cameras, roles.bands, roles.log, lane, canary)
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
        options = ChannelOptions(
            run_size=1, on_state=watch.gate_of(group), answered=watch.answered
        )
        roles.agent(group, options, each(handler))


def add_notify(roles: Roles) -> None:
    """What alerts → notification.requested → notification.sent, notification.failed; optional."""
    from agents.notify import Alert, Notify, say_paused
    from domain.notifications import Rules
    from runtime.webhook import Webhook

    s = roles.settings
    if s.webhook_url is None:
        raise HsiError("the role notify needs DEFAULT_WEBHOOK_URL, and NOTIFICATION_ENABLED")
    rules = Rules(s.late_after_seconds, s.late_alert_max_age_seconds)
    roles.agent("alert", ChannelOptions(), each(Alert(roles.log, roles.cameras, rules)))
    webhook = Webhook(
        s.webhook_url, allowed=s.webhook_networks, timeout_seconds=s.webhook_timeout_seconds
    )
    roles.contexts.push_async_callback(webhook.close)
    few = ChannelOptions(run_size=MESSAGES_AT_ONCE, concurrency=2, on_state=say_paused)
    roles.agent("notify", few, at_once(Notify(webhook)))


def add_scene(roles: Roles) -> None:
    """image.received → scene.*: alone on each partition, while the main line rests."""
    from agents.main_line_first import MainLineFirst
    from agents.scene import PACE_SECONDS, RUN_SIZE, SceneOptions, Scenes
    from streams.main_line import rest_of

    s = roles.settings
    if not s.scene_groups:
        raise HsiError("the role scene needs SCENE_CHANGE_ENABLED=true")
    options = SceneOptions(
        threshold=s.scene_change_threshold,
        width=s.scene_change_width,
        interval=timedelta(seconds=s.scene_change_interval_seconds),
    )
    first = MainLineFirst(lambda: rest_of(roles.log))
    scenes = Scenes(
        roles.log,
        roles.pictures(),
        roles.cameras,
        options,
        first.turn,
        archive_dir=s.archive_folder,
    )
    reading = ChannelOptions(
        run_size=RUN_SIZE, pace_seconds=PACE_SECONDS, on_owned=scenes.on_owned
    )
    channel = roles.channel("scene", reading)
    first.stopping = channel.stopping

    async def runs(stream: Any) -> None:  # noqa: ANN401 - faust's stream
        async for run in stream:
            await scenes.handle(channel, run)

    roles.app.agent(channel.runs, name="hsi.scene")(runs)


def add_trial(roles: Roles) -> None:
    """Compare candidates with what is in service; withdraw one that breaks a limit."""
    from agents.main_line_first import MainLineFirst
    from agents.trying import open_guards, open_trial
    from agents.trying_prompts import open_prompt_trial
    from streams.main_line import rest_of

    s = roles.settings
    if not s.trial_groups:
        raise HsiError("the role trial needs CANDIDATE_RTDETR_URL or CANDIDATE_PROMPT")
    if url := s.candidate_rtdetr_url:
        first = MainLineFirst(lambda: rest_of(roles.log))
        trial = open_trial(s, url, roles.pictures(), roles.contexts, first.turn)
        few = ChannelOptions(run_size=TRIAL_RUN)
        first.stopping = roles.agent("trial_detector", few, each(trial)).stopping
    if "trial_prompt" in s.trial_groups:
        asks = open_prompt_trial(s, roles.log, roles.cameras, roles.bands, roles.contexts)
        roles.agent("trial_prompt", ChannelOptions(run_size=1), each(asks))
    for group, guard in open_guards(roles.log, roles.live).items():
        roles.sides[f"{group} guard"] = guard.run


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
    from agents.projected import add_projected_spans

    dsn = roles.settings.database_dsn
    if dsn is None:
        raise HsiError("the role project needs DATABASE_URL")
    applied = add_projected_spans(roles)
    archive = roles.settings.archive_folder
    roles.sides["project"] = Project(roles.log, dsn, archive_dir=archive, on_applied=applied).run


def add_retention(roles: Roles) -> None:
    """Once a day: delete what is too old, archive and trim the log."""
    from agents.project import read_models
    from agents.retention import Days, Files, run_retention
    from inference.clip_store import ClipStore
    from projections.upkeep import UpkeepOptions

    s = roles.settings
    dsn = s.database_dsn
    if dsn is None:
        raise HsiError("the role retention needs DATABASE_URL")
    options = UpkeepOptions(read_models(), s.archive_folder, s.stream_keep_hours)
    roles.sides["retention"] = run_retention(
        roles.log,
        dsn,
        Files(roles.pictures(), ClipStore(s.clips_folder)),
        options,
        days=Days(lambda: roles.live.current.retention_days, s.log_retention_days),
        zone=roles.zone,
    )
    roles.producers.add("retention")


def add_traces(roles: Roles) -> None:
    """All events → spans at an OTLP collector; optional."""
    from agents.traces import Traces

    exporter = open_exporter(roles.settings, "traces")
    if exporter is None:
        raise HsiError("the role traces needs OTEL_EXPORTER_OTLP_ENDPOINT")
    roles.contexts.callback(exporter.close)
    roles.sides["traces"] = Traces(roles.log, exporter).run


_ADD: dict[str, Callable[[Roles], None]] = {
    "watch": add_watch,
    "detect": add_detect,
    "batch": add_batch,
    "assess": add_assess,
    "refine": add_refine,
    "enrich": add_enrich,
    "scene": add_scene,
    "notify": add_notify,
    "trial": add_trial,
    "monitor": add_monitor,
    "project": add_project,
    "retention": add_retention,
    "traces": add_traces,
}


async def run_roles(settings: Settings, names: Sequence[str]) -> None:
    """Run the named roles in this process until SIGTERM or SIGINT, then drain.

    Raises HsiError for an unknown role, and the error of a background task that ended unasked.
    """
    if unknown := sorted(set(names) - set(ROLES)):
        raise HsiError(f"there is no role {', '.join(unknown)}; roles are {', '.join(ROLES)}")
    if set(names) <= GIVE_WAY:
        give_way()
    stop = stop_on_signals()
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
        resets = BreakerResets(log, roles.channels, roles.consumer)
        follower.hearers.append(resets.hear)
        roles.sides["breakers"] = resets.run
        roles.sides["heartbeat"] = beat
        roles.sides["camera directory"] = cameras.run
        for name in names:
            _ADD[name](roles)
        await run_until_stopped(roles, names, stop)
