"""The web application: middlewares, routes, background tasks, in the order of their life."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, Final

from aiohttp import web

from api import (
    analytics,
    audit,
    camera_uptime,
    cameras,
    circuit_breakers,
    cleanup,
    clips,
    configuration,
    diagnostics,
    dlq,
    enrichments,
    entities,
    event_search,
    events,
    interface,
    keys,
    latency,
    ledger,
    lineage_routes,
    live,
    logs,
    media,
    metrics,
    models,
    notifications,
    overview,
    scene_changes,
    service_control,
    sessions,
    static,
    storage,
    system,
    trials,
    unverified,
    websocket_overview,
)
from api.access import Gate, guarded
from api.access_audit import Audit
from api.addresses import Clients
from api.asyncapi import asyncapi_document
from api.compression import gzipped
from api.health import watch_rates
from api.http_metrics import HttpMetrics
from api.interface import DOCUMENT, MESSAGES
from api.ledger_metrics import LedgerMetrics
from api.limits import RateLimits, SharedWindows
from api.live import FEED, LIMITS
from api.middleware import (
    common_headers,
    cross_origin,
    errors_to_problems,
    request_id_and_log,
)
from api.openapi import document
from api.services import SERVICES, ApiServices
from api.sessions import GATE
from api.system_feed import SystemFeed
from api.websocket import Limits
from runtime.tasks import end
from streams.rate_limit import RateWindows
from streams.runtime_env import RuntimeEnv
from streams.sessions import Sessions

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024

TOPICS: Final = (
    system,
    overview,
    circuit_breakers,
    websocket_overview,
    service_control,
    models,
    diagnostics,
    storage,
    latency,
    configuration,
    cleanup,
    cameras,
    scene_changes,
    events,
    event_search,
    analytics,
    camera_uptime,
    enrichments,
    entities,
    trials,
    unverified,
    notifications,
    ledger,
    dlq,
    lineage_routes,
    media,
    clips,
    live,
    logs,
    metrics,
    keys,
    sessions,
    audit,
    interface,
    static,
)
"""Every part of the interface, in the order in which it is documented."""

FAILED = web.AppKey("failed", asyncio.Event)
"""Set when a background task has ended unasked; the process should end then."""


def create_app(services: ApiServices, *, limits: Limits | None = None) -> web.Application:
    """Build the application over opened collaborators, which the caller closes."""
    config = services.config
    windows = SharedWindows(RateWindows(services.log))
    gate = Gate(services.keys, Sessions(services.log), Clients(config.trusted_proxies), windows)
    limited = None if config.rate_limits is None else RateLimits(windows, config.rate_limits)
    http_metrics = HttpMetrics()
    app = web.Application(
        middlewares=[
            request_id_and_log(http_metrics.observe),
            gzipped(),
            errors_to_problems(debug=config.debug),
            cross_origin(config.cors_origins),
            guarded(gate, limited, Audit(services.log), ask=config.api_key_enabled),
        ],
        client_max_size=MAX_BODY_BYTES,
    )
    app[SERVICES] = services
    app[GATE] = gate
    app[metrics.HTTP_METRICS] = http_metrics
    app[metrics.LEDGER_METRICS] = LedgerMetrics()
    app[DOCUMENT] = openapi_document(config.app_name, config.app_version)
    app[MESSAGES] = asyncapi_document(config.app_name, config.app_version)
    app[LIMITS] = limits or Limits()
    app[FEED] = SystemFeed(services, services.broadcaster.channels["system"])
    app[FAILED] = asyncio.Event()
    for topic in TOPICS:
        app.router.add_routes(topic.routes.definitions())
    app.on_response_prepare.append(
        common_headers(config.cors_origins, strict=config.strict_transport)
    )
    services.keys.on_revoked = partial(live.close_revoked, services.broadcaster)
    app.on_shutdown.append(live.close_all)
    app.cleanup_ctx.append(_background)
    return app


def openapi_document(title: str, version: str) -> bytes:
    """Return the OpenAPI document of every route."""
    operations = (operation for topic in TOPICS for operation in topic.routes.operations)
    return document(operations, title=title, version=version)


async def _background(app: web.Application) -> AsyncIterator[None]:
    """Run what goes on beside the requests while the application runs."""
    services = app[SERVICES]
    await services.broadcaster.open()
    tasks = [
        _start(app, services.broadcaster.run(), "live-feed"),
        _start(app, app[FEED].run(), "system-feed"),
        _start(app, watch_rates(services), "backlog-rates"),
    ]
    if (file := services.live.own.runtime_file) is not None:
        edits = RuntimeEnv(services.log, services.live, file)
        tasks.append(_start(app, edits.run(), "runtime-env"))
    yield
    await end(*tasks)
    await app[metrics.LEDGER_METRICS].close()


def _start(app: web.Application, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.critical("task %s ended unasked", name, exc_info=task.exception())
            app[FAILED].set()

    task.add_done_callback(ended)
    return task
