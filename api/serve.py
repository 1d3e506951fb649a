"""Composition root of the API process: settings → clients → application → port, and back.

While Redis or PostgreSQL cannot be reached at the start, the port answers already: `/health` says
alive, everything else says what is missing, and the start is tried again every second.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from api.accepting import BACKLOG, allow_many_files, serve
from api.access_keys import KeyRing, digest_of, prime_keys
from api.app import FAILED, create_app
from api.breaker_words import BreakerWords
from api.broadcast import Broadcaster
from api.clip_maker import ClipMaker
from api.gpu_history import GpuHistory
from api.limits_config import RateLimitConfig
from api.pushes import follow_pushes
from api.services import ApiConfig, ApiServices
from api.starting import create_starting_app
from api.states import ServiceStates
from api.supervision import Supervision
from api.thumbnails import PictureRenderer
from api.websocket import Limits
from domain.enrichment import GROUP_OF
from domain.errors import HsiError, ServiceUnavailableError, TransientError
from domain.risk import Bands
from inference.clip_store import ClipStore
from inference.pictures import PictureStore
from projections.database import Pool, open_pool
from projections.queries import Queries
from projections.retention import Retention
from projections.retention_queries import RetentionQueries
from runtime.heartbeat import beat
from runtime.logs import set_log_level
from runtime.settings import Settings
from runtime.tasks import end
from runtime.tls import keep_renewed, server_context, tls_plan
from streams.configuration import load_changed
from streams.live_settings import LiveSettings
from streams.log import EventLog
from streams.supervised import load_supervised

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
DRAIN_SECONDS = 10.0
"""How long requests in hand may take once the process is asked to stop."""
POOL_SIZE = 8
POOL_WAIT_SECONDS = 3.0
"""A client that waits longer for PostgreSQL is better told to come back."""
STATEMENT_SECONDS = 60.0
"""No question may keep one of the few connections for longer."""
PRIMED_SAMPLES = 5000


async def run_api(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Stops in this order: no new connections, WebSockets closed with 1001, requests in hand
    finished, live feed ended, database pool and log closed.
    """
    allow_many_files(settings.websocket_max_clients)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.api_host, settings.api_port))
        signs = asyncio.create_task(beat(stop), name="heartbeat")
        stack.push_async_callback(end, signs)
        tls = _tls(settings, stack, stop)
        services = await _open_patiently(settings, Port(listener, tls), stack, stop)
        if services is None:
            return
        app = create_app(services, limits=_websocket_limits(settings))
        stack.push_async_callback(await serve(app, listener, tls, drain_seconds=DRAIN_SECONDS))
        # What is there by now stays: garbage is looked for among what comes later.
        gc.collect()
        gc.freeze()
        url = url_of(listener, encrypted=tls is not None)
        logger.info("the API answers at %s", url, extra={"action": "ready"})
        _tell_ready(url)
        await _first_of(stop, app[FAILED])
        if app[FAILED].is_set():
            raise HsiError("a background task of the API ended; the log says which and why")


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises HsiError naming what is wrong with the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise HsiError(
            f"the API cannot listen at API_HOST={host} API_PORT={port}: {error.strerror}; "
            "choose another address or port"
        ) from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _tls(settings: Settings, stack: AsyncExitStack, stop: asyncio.Event) -> ssl.SSLContext | None:
    """Return the port's TLS context, which follows renewed certificates; None: plain HTTP."""
    plan = tls_plan(settings)
    if plan is None:
        return None
    context = server_context(plan)
    task = asyncio.create_task(keep_renewed(context, plan, stop), name="certificates")
    stack.push_async_callback(end, task)
    return context


def url_of(listener: socket.socket, *, encrypted: bool = False) -> str:
    """Return the URL under which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    scheme = "https" if encrypted else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Port:
    """Where the API listens."""

    listener: socket.socket
    tls: ssl.SSLContext | None


async def _open_patiently(
    settings: Settings, port: Port, stack: AsyncExitStack, stop: asyncio.Event
) -> ApiServices | None:
    """Open everything, again and again while a service is away; None when asked to stop."""
    waiting: Callable[[], Awaitable[None]] | None = None
    missing = [("start", "")]
    try:
        while not stop.is_set():
            try:
                return await _open(settings, stack)
            except TransientError as error:
                if str(error) != missing[0][1]:
                    logger.warning("the API waits: %s", error)
                service = error.service if isinstance(error, ServiceUnavailableError) else "start"
                missing[0] = (service, str(error))
            if waiting is None:
                app = create_starting_app(
                    settings.app_name, settings.app_version, lambda: missing[0]
                )
                waiting = await serve(app, port.listener, port.tls, drain_seconds=DRAIN_SECONDS)
            try:
                async with asyncio.timeout(RETRY_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue
        return None
    finally:
        if waiting is not None:
            await waiting()


async def _open(settings: Settings, stack: AsyncExitStack) -> ApiServices:
    if settings.redis_url is None or settings.database_dsn is None:
        raise HsiError("the API needs REDIS_URL and DATABASE_URL; `hsi up` brings its own")
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    async with AsyncExitStack() as opened:
        log = await EventLog.open(
            settings.redis_url, password=password, partitions=settings.stream_partitions
        )
        opened.push_async_callback(log.close)
        await log.use_groups([GROUP_OF[service] for service in settings.enrichment_urls])
        await log.use_groups([*settings.trial_groups, *settings.alert_groups])
        await log.use_groups(settings.scene_groups)
        pool = await open_pool(
            settings.database_dsn,
            name="api",
            max_size=POOL_SIZE,
            wait_seconds=POOL_WAIT_SECONDS,
            statement_seconds=STATEMENT_SECONDS,
        )
        opened.push_async_callback(pool.close)
        services = _services(settings, log, pool)
        opened.callback(services.clips.close)
        follow_pushes(settings, services.broadcaster, opened)
        await services.queries.ping()
        await _prime(services)
        await services.broadcaster.open()
        # After the tail is held: no change can come between what is read here and what is heard.
        services.live.learn(await load_changed(log))
        services.supervision.learn(await load_supervised(log))
        services.live.on_change(set_log_level)
        services.live.on_change(lambda now: services.retention.keep_days(now.retention_days))
        services.retention.keep_log_days(settings.log_retention_days)
        services.retention.also_delete(services.clips.store)
        # After the tail is open: what comes from now on is heard, what came before is read.
        await prime_keys(services.keys, services.queries, log)
        stack.push_async_callback(opened.pop_all().aclose)
    return services


def _services(settings: Settings, log: EventLog, pool: Pool) -> ApiServices:
    queries = Queries(pool)
    gpu = GpuHistory(
        minutes=settings.gpu_stats_history_minutes,
        interval_seconds=settings.gpu_poll_interval_seconds,
    )
    states = ServiceStates()
    supervision = Supervision()
    breakers = BreakerWords()
    keys = KeyRing(digest_of(key) for key in settings.configured_keys)
    live = LiveSettings(settings)
    store = PictureStore(settings.foscam_base_path, settings.state_dir / "frames")
    clips = ClipMaker(ClipStore(settings.clips_folder))
    return ApiServices(
        config=_config(settings),
        log=log,
        queries=queries,
        pictures=PictureRenderer(store),
        broadcaster=Broadcaster(
            log,
            hear=(
                gpu.hear,
                states.hear,
                live.hear,
                keys.hear,
                supervision.hear,
                breakers.hear,
            ),
            late_after_seconds=settings.late_after_seconds,
        ),
        gpu=gpu,
        retention=Retention(
            log,
            RetentionQueries(pool),
            queries,
            store,
            days=settings.retention_days,
            zone=ZoneInfo(settings.camera_timezone),
        ),
        clips=clips,
        states=states,
        supervision=supervision,
        breakers=breakers,
        live=live,
        keys=keys,
    )


def _config(settings: Settings) -> ApiConfig:
    plan = tls_plan(settings)
    return ApiConfig(
        app_name=settings.app_name,
        app_version=settings.app_version,
        base_folder=settings.foscam_base_path.absolute(),
        debug=settings.debug,
        cors_origins=settings.cors_origins,
        gpu_poll_interval_seconds=settings.gpu_poll_interval_seconds,
        gpu_stats_history_minutes=settings.gpu_stats_history_minutes,
        late_after_seconds=settings.late_after_seconds,
        archive_dir=settings.archive_folder,
        risk_model_expected=settings.embedded_llm or settings.nemotron_url is not None,
        enrichment_services=frozenset(settings.enrichment_urls),
        bands=Bands(
            settings.severity_low_max, settings.severity_medium_max, settings.severity_high_max
        ),
        frames_dir=settings.state_dir / "frames",
        time_zone=settings.camera_timezone,
        api_key_enabled=settings.api_key_enabled,
        strict_transport=plan is not None and plan.mode == "provided",
        rate_limits=_rate_limits(settings),
        model_urls=_model_urls(settings),
        models_dir=settings.models_dir,
        embedded_llm_model=settings.embedded_llm_model,
        trusted_proxies=settings.trusted_proxy_ips,
        traces=settings.otel_exporter_otlp_endpoint is not None,
    )


def _model_urls(settings: Settings) -> dict[str, str]:
    named = {"detector": settings.rtdetr_url, "risk_model": settings.nemotron_url}
    return {name: url for name, url in named.items() if url} | dict(settings.enrichment_urls)


def _rate_limits(settings: Settings) -> RateLimitConfig | None:
    if not settings.rate_limit_enabled:
        return None
    return RateLimitConfig(
        default=settings.rate_limit_requests_per_minute,
        burst=settings.rate_limit_burst,
        media=settings.rate_limit_media_requests_per_minute,
        search=settings.rate_limit_search_requests_per_minute,
        websocket=settings.rate_limit_websocket_connections_per_minute,
        this_machine=settings.rate_limit_this_machine,
    )


def _websocket_limits(settings: Settings) -> Limits:
    return Limits(
        message_bytes=settings.websocket_max_message_size,
        ping_seconds=settings.websocket_ping_interval_seconds,
        idle_seconds=settings.websocket_idle_timeout_seconds,
        max_clients=settings.websocket_max_clients,
    )


async def _prime(services: ApiServices) -> None:
    """Fill the memories with what was sampled and said before this process started."""
    services.states.learn(await services.queries.service_states())
    minutes = services.config.gpu_stats_history_minutes
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    rows = await services.queries.gpu_history(since=since, limit=PRIMED_SAMPLES)
    services.gpu.prime(rows, await services.queries.gpu_sources())


def _tell_ready(url: str) -> None:
    """Write the file that HSI_READY_FILE names, whole or not at all."""
    wanted = os.environ.get("HSI_READY_FILE")
    if not wanted:
        return
    path = Path(wanted)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"role": "api", "pid": os.getpid(), "url": url}))
    part.replace(path)
