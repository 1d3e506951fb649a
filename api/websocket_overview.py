"""Routes about the live connections: how they are, and which messages there are."""

from typing import Literal

import msgspec
from aiohttp import web

from api.live import LIMITS, connected
from api.message_catalogue import MessageType, message_types
from api.routing import Routes
from api.services import SERVICES, answer
from api.system import WebSocketStats, websocket_stats
from api.websocket import Limits

routes = Routes("system")


class WebSocketLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed to a client."""

    max_clients: int
    idle_seconds: float
    ping_seconds: float
    message_bytes: int
    outbox_bytes: int
    """What may wait for a client here; with more it goes on from the log."""
    stall_seconds: float
    """How long it may then stop reading before it is cut."""


class WebSocketHealth(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/health/websocket."""

    status: Literal["healthy", "degraded"]
    """degraded: the log cannot be read, or no more clients are taken."""
    message: str
    clients: int
    limits: WebSocketLimits
    channels: dict[str, WebSocketStats]


class MessageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One type of message."""

    type: str
    channel: str
    topic: str | None
    """What to subscribe to for it; null: it is an answer, or what a client says."""
    sent_by: Literal["server", "client"]
    description: str
    schema: str
    """Where its fields are described."""


class CatalogueAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/websocket/events."""

    events: list[MessageAnswer]
    count: int


@routes.get("/api/system/health/websocket", WebSocketHealth)
async def websocket_health(request: web.Request) -> web.Response:
    """Answer how the live feed is, and its connections since this process started."""
    services, limits = request.app[SERVICES], request.app[LIMITS]
    error, clients = services.broadcaster.error, connected(services.broadcaster)
    said = "follows the log"
    if error is not None:
        said = f"waits for the log: {error}"
    elif clients >= limits.max_clients:
        said = f"takes no more clients: WEBSOCKET_MAX_CLIENTS is {limits.max_clients}"
    return answer(
        WebSocketHealth(
            status="degraded" if error is not None or clients >= limits.max_clients else "healthy",
            message=said,
            clients=clients,
            limits=_limits(limits),
            channels=websocket_stats(services),
        )
    )


def _limits(limits: Limits) -> WebSocketLimits:
    return WebSocketLimits(
        max_clients=limits.max_clients,
        idle_seconds=limits.idle_seconds,
        ping_seconds=limits.ping_seconds,
        message_bytes=limits.message_bytes,
        outbox_bytes=limits.outbox_bytes,
        stall_seconds=limits.stall_seconds,
    )


@routes.get("/api/system/websocket/events", CatalogueAnswer)
async def websocket_events(request: web.Request) -> web.Response:
    """Answer every type of WebSocket message, by channel.

    `/api/asyncapi.json` describes their fields.
    """
    told = [_told(each, channel) for each in message_types() for channel in each.channels]
    told.sort(key=lambda each: each.channel)
    return answer(CatalogueAnswer(events=told, count=len(told)))


def _told(each: MessageType, channel: str) -> MessageAnswer:
    return MessageAnswer(
        type=each.tag,
        channel=f"/ws/{channel}",
        topic=each.topic,
        sent_by="client" if each.from_client else "server",
        description=each.description,
        schema=f"/api/asyncapi.json#/components/schemas/{each.name}",
    )
