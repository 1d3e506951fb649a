"""The routes /ws/events, /ws/detections and /ws/system: one connection each request."""

import asyncio
import logging
import socket

from aiohttp import WSCloseCode, web

from api.access import key_of, offered
from api.broadcast import Broadcaster
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES
from api.system_feed import SystemFeed
from api.websocket import Client, Connection, Greeting, Limits, LiveQuery, close, read_cursor
from projections.scope import cameras_seen

logger = logging.getLogger(__name__)

LIMITS = web.AppKey("limits", Limits)
FEED = web.AppKey("system_feed", SystemFeed)

routes = Routes("live")

_PROBLEMS = ("upgrade_required", "too_many_clients")


@routes.get("/ws/{channel:events|detections}", {101: None}, problems=_PROBLEMS)
async def live(request: web.Request, query: LiveQuery) -> web.StreamResponse:
    """Tell a client what happens, from its cursor on if it has one.

    A key for some cameras is told of these.
    """
    return await _serve(request, request.match_info["channel"], query, _no_greeting)


@routes.get("/ws/system", {101: None}, problems=_PROBLEMS)
async def live_system(request: web.Request, query: LiveQuery) -> web.StreamResponse:
    """Tell a client how the system is, now and whenever that changes."""
    return await _serve(request, "system", query, request.app[FEED].greet)


async def _no_greeting(connection: Connection) -> None:
    """Say nothing: these channels start with what happens next."""


async def _serve(
    request: web.Request, name: str, query: LiveQuery, greeting: Greeting
) -> web.StreamResponse:
    limits, broadcaster = request.app[LIMITS], request.app[SERVICES].broadcaster
    channel = broadcaster.channels[name]
    if connected(broadcaster) >= limits.max_clients:
        channel.metrics.refused += 1
        raise ProblemError(
            "too_many_clients",
            f"{limits.max_clients} clients are connected; try again later",
            headers={"Retry-After": "30"},
        )
    ws = web.WebSocketResponse(
        heartbeat=limits.ping_seconds,
        max_msg_size=limits.message_bytes,
        compress=False,
        writer_limit=0,  # Whoever is fed from the log waits whenever the transport is full.
        protocols=offered(request)[:1],
    )
    if not ws.can_prepare(request).ok:
        raise ProblemError(
            "upgrade_required",
            f"connect to {request.path} with a WebSocket client",
            headers={"Upgrade": "websocket"},
        )
    await ws.prepare(request)
    if request.transport is None:
        return ws  # It left before it was answered.
    _bound(request.transport, limits.outbox_bytes)
    client = Client(ws, request.transport, cameras_seen(), key_of(request))
    connection = Connection(client, channel, broadcaster, limits)
    code, reason = await connection.run(read_cursor(query), greeting)
    logger.info("/ws/%s closed: %d %s", name, code, reason)
    await close(ws, request, code, reason)
    return ws


def _bound(transport: asyncio.Transport, outbox_bytes: int) -> None:
    """Let little wait for a client: the kernel alone takes megabytes before anybody notices that
    the client does not read, so it gets no more than our outbox; half of that when it is fed."""
    transport.set_write_buffer_limits(high=outbox_bytes // 2)
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, outbox_bytes)


def connected(broadcaster: Broadcaster) -> int:
    """Return how many clients this process serves, over all channels."""
    return sum(len(channel.connections) for channel in broadcaster.channels.values())


def close_revoked(broadcaster: Broadcaster, key_id: str) -> None:
    """Close what a key let in that counts no more."""
    for channel in broadcaster.channels.values():
        for connection in tuple(channel.connections):
            if connection.key_id == key_id:
                connection.end(WSCloseCode.POLICY_VIOLATION, "wrong_key: the key was revoked")


async def close_all(app: web.Application) -> None:
    """Ask every client to come back later with its cursor: this server stops."""
    for channel in app[SERVICES].broadcaster.channels.values():
        for connection in tuple(channel.connections):
            connection.end(WSCloseCode.GOING_AWAY, "the server stops; reconnect with your cursor")
