"""The routes /ws/events and /ws/system: one connection each request."""

import logging

from aiohttp import WSCloseCode, web

from api.access import offered
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES
from api.system_feed import SystemFeed
from api.websocket import Connection, Greeting, Limits, LiveQuery, close, read_cursor

logger = logging.getLogger(__name__)

MAX_CLIENTS = 1000
"""Connections a channel serves at once."""

CONNECTIONS = web.AppKey("connections", set[Connection])
LIMITS = web.AppKey("limits", Limits)
FEED = web.AppKey("system_feed", SystemFeed)

routes = Routes("live")


@routes.get(
    "/ws/{channel:events|system}", {101: None}, problems=["upgrade_required", "too_many_clients"]
)
async def live(request: web.Request, query: LiveQuery) -> web.StreamResponse:
    """Tell a client what happens, from its cursor on if it has one."""
    name = request.match_info["channel"]
    app = request.app
    if len(app[CONNECTIONS]) >= MAX_CLIENTS:
        raise ProblemError(
            "too_many_clients",
            f"{MAX_CLIENTS} clients are connected; try again later",
            headers={"Retry-After": "30"},
        )
    limits = app[LIMITS]
    ws = web.WebSocketResponse(
        heartbeat=limits.ping_seconds,
        max_msg_size=limits.message_bytes,
        compress=False,
        protocols=offered(request)[:1],
    )
    if not ws.can_prepare(request).ok:
        raise ProblemError(
            "upgrade_required",
            f"connect to {request.path} with a WebSocket client",
            headers={"Upgrade": "websocket"},
        )
    await ws.prepare(request)
    broadcaster = app[SERVICES].broadcaster
    connection = Connection(ws, broadcaster.channels[name], broadcaster, limits)
    app[CONNECTIONS].add(connection)
    try:
        code, reason = await connection.run(read_cursor(query), _greeting(app, name))
    finally:
        app[CONNECTIONS].discard(connection)
    logger.info("/ws/%s closed: %d %s", name, code, reason)
    await close(ws, request, code, reason)
    return ws


async def _no_greeting(connection: Connection) -> None:
    """Say nothing: the events channel starts with what happens next."""


def _greeting(app: web.Application, channel: str) -> Greeting:
    return app[FEED].greet if channel == "system" else _no_greeting


async def close_all(app: web.Application) -> None:
    """Ask every client to come back later with its cursor: this server stops."""
    connections = app[CONNECTIONS]
    for connection in tuple(connections):
        connection.end(WSCloseCode.GOING_AWAY, "the server stops; reconnect with your cursor")
