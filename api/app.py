"""The web application: middlewares, routes, background tasks, in the order of their life."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web

from api import (
    cameras,
    cleanup,
    dlq,
    events,
    ledger,
    lineage_routes,
    live,
    media,
    metrics,
    static,
    system,
)
from api.health import watch_rates
from api.live import CONNECTIONS, FEED, LIMITS
from api.middleware import (
    common_headers,
    cross_origin,
    errors_to_problems,
    request_id_and_log,
)
from api.services import SERVICES, ApiServices
from api.system_feed import SystemFeed
from api.websocket import Limits
from runtime.tasks import end

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024

FAILED = web.AppKey("failed", asyncio.Event)
"""Set when a background task has ended unasked; the process should end then."""


def create_app(services: ApiServices, *, limits: Limits | None = None) -> web.Application:
    """Build the application over opened collaborators, which the caller closes."""
    config = services.config
    app = web.Application(
        middlewares=[
            request_id_and_log(),
            errors_to_problems(debug=config.debug),
            cross_origin(config.cors_origins),
        ],
        client_max_size=MAX_BODY_BYTES,
    )
    app[SERVICES] = services
    app[CONNECTIONS] = set()
    app[LIMITS] = limits or Limits()
    app[FEED] = SystemFeed(services, services.broadcaster.channels["system"])
    app[FAILED] = asyncio.Event()
    for topic in (
        system,
        cleanup,
        cameras,
        events,
        ledger,
        dlq,
        lineage_routes,
        media,
        live,
        metrics,
        static,
    ):
        app.router.add_routes(topic.routes.definitions())
    app.on_response_prepare.append(common_headers(config.cors_origins))
    app.on_shutdown.append(live.close_all)
    app.cleanup_ctx.append(_background)
    return app


async def _background(app: web.Application) -> AsyncIterator[None]:
    """Run the live feed and the system feed while the application runs."""
    services = app[SERVICES]
    await services.broadcaster.open()
    tasks = [
        _start(app, services.broadcaster.run(), "live-feed"),
        _start(app, app[FEED].run(), "system-feed"),
        _start(app, watch_rates(services), "backlog-rates"),
    ]
    yield
    await end(*tasks)


def _start(app: web.Application, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            logger.critical("task %s ended unasked", name, exc_info=task.exception())
            app[FAILED].set()

    task.add_done_callback(ended)
    return task
