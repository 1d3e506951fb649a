"""One WebSocket connection: what it hears and is answered, resume, silence, slow-client close.

Frames are made once for all clients and written to each one's transport: its buffer is the bounded
outbox, so hearing a message takes no task, no queue and no copy.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from api.broadcast import Broadcaster, Channel
from api.client_messages import Ping, Resume, Subscribe, Unsubscribe, UnusableError, read_message
from api.cursor import MAX_CURSOR_LENGTH, CursorError, Key, decode_cursor
from api.messages import Answer, ErrorCode, ErrorMessage, Hello, Pong, Resumed, Subscribed
from api.outgoing import encoded, text_frame
from api.subscriptions import BadPatternError, Subscriptions
from domain.errors import TransientError
from runtime.tasks import end
from streams.envelope import Position

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""How long a client may take to answer a close before its connection is dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold and how long it may be silent, and how many there may be."""

    outbox_bytes: int = 65_536
    """What may wait for a client in this process; with more it goes on from the log."""
    message_bytes: int = 65_536
    ping_seconds: float = 30.0
    idle_seconds: float = 300.0
    """A client that says nothing for so long is closed; a ping of its own is enough to stay."""
    stall_seconds: float = 30.0
    """How long a client that is behind may stop reading before it is cut."""
    max_clients: int = 2_000
    """Connections that a process serves at once, over all channels."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end."""

    ws: web.WebSocketResponse
    transport: asyncio.Transport
    cameras: frozenset[str] | None = None
    """The cameras that the client's key is for; None: all."""
    key_id: str | None = None
    """The key that lets the client in."""


class Connection:
    """A client of one channel, from its first message to its close."""

    def __init__(
        self, client: Client, channel: Channel, broadcaster: Broadcaster, limits: Limits
    ) -> None:
        self._ws = client.ws
        self._transport = client.transport
        self._cameras = client.cameras
        self.key_id = client.key_id
        self._channel = channel
        self._broadcaster = broadcaster
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._subscriptions = Subscriptions(channel.name)
        self._heard_at = self._loop.time()
        self._silence: asyncio.TimerHandle | None = None

    @property
    def waiting_bytes(self) -> int:
        """Return how much was sent to the client and has not left this process."""
        return self._transport.get_write_buffer_size()

    def hears(self, topic: str, camera_id: str) -> bool:
        """Say whether the client is told of a topic (at first of all) and of a camera."""
        if topic not in self._subscriptions:
            return False
        return self._cameras is None or camera_id in self._cameras

    def offer(self, frames: bytes) -> bool:
        """Send whole frames; False when the client has not read what came before."""
        return self._send(frames, self._limits.outbox_bytes)

    def _send(self, frames: bytes, most: int) -> bool:
        transport = self._transport
        waiting = transport.get_write_buffer_size()
        if waiting and waiting + len(frames) > most:
            return False
        if not transport.is_closing():
            transport.write(frames)
        return True

    def fall_behind(self, positions: dict[Key, Position]) -> None:
        """Go on from the log behind `positions`, as fast as the client reads."""
        self._channel.listeners.discard(self)
        self._feeder = self._start(self._feed(positions, tell=False), "websocket-feeder")

    def _cut_slow(self) -> None:
        if not self._ending.done():
            self._channel.metrics.cut_slow += 1
        self.end(
            WSCloseCode.TRY_AGAIN_LATER,
            "too slow: reconnect with the cursor of the last message you read",
        )

    def end(self, code: int, reason: str) -> None:
        """Close this connection with `reason`; the first call counts."""
        self._channel.listeners.discard(self)
        if not self._ending.done():
            self._ending.set_result((code, reason))

    def _say(self, message: Answer) -> None:
        # Twice the outbox: an answer has room also while the outbox is full of what came live.
        if not self._send(text_frame(encoded(message)), 2 * self._limits.outbox_bytes):
            self._cut_slow()

    # --- the life of a connection -----------------------------------------------------------

    async def run(self, cursor: str | None, greet: "Greeting") -> tuple[int, str]:
        """Serve the client until either side ends it; answer the close code and reason.

        `greet` offers what a client without a cursor is told first.
        """
        self._channel.metrics.connections += 1
        self._channel.connections.add(self)
        self._watch_silence()
        self._start(self._begin(cursor, greet), "websocket-greeting")
        self._start(self._read(), "websocket-reader")
        try:
            return await self._ending
        finally:
            self._channel.listeners.discard(self)
            self._channel.connections.discard(self)
            if self._silence is not None:
                self._silence.cancel()
            await end(*self._tasks)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails ends its connection; the client may come back with its cursor."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed: %r", task.get_name(), error, exc_info=error)
            self.end(WSCloseCode.INTERNAL_ERROR, "internal error; reconnect with your cursor")

    def _watch_silence(self) -> None:
        """End the connection once the client has said nothing for too long; else look again.

        Pongs do not count: they say that the client's machine is there, not that anybody listens.
        """
        left = self._heard_at + self._limits.idle_seconds - self._loop.time()
        if left > 0:
            self._silence = self._loop.call_later(left, self._watch_silence)
        else:
            idle = f"idle: nothing received for {self._limits.idle_seconds:g} s"
            self.end(WSCloseCode.OK, idle)

    async def _begin(self, cursor: str | None, greet: "Greeting") -> None:
        if cursor is None or not await self._resume(cursor, hello=True):
            self._hello(self._channel.cursor(), resumed=False)
            self._channel.listeners.add(self)
        await greet(self)

    def _hello(self, cursor: str, *, resumed: bool) -> None:
        self._say(
            Hello(
                channel=self._channel.name,
                resumed=resumed,
                cursor=cursor,
                ping_seconds=self._limits.ping_seconds,
                idle_seconds=self._limits.idle_seconds,
            )
        )

    async def _read(self) -> None:
        """Answer what the client sends until it leaves."""
        while True:
            message = await self._ws.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.end(self._ws.close_code or WSCloseCode.ABNORMAL_CLOSURE, "the client left")
                return
            self._heard_at = self._loop.time()
            await self._handle(message)

    async def _handle(self, message: WSMessage) -> None:
        if message.type is WSMsgType.BINARY:
            self._error("invalid_message_format", "send text messages with JSON in them")
            return
        try:
            wanted = read_message(message.data)
        except UnusableError as error:
            self._error(error.code, str(error))
            return
        match wanted:
            case Ping():
                self._say(Pong())
            case Resume():
                await self._resume(wanted.cursor, hello=False)
            case Subscribe():
                self._subscribe(self._subscriptions.add, wanted.patterns)
            case Unsubscribe():
                self._subscribe(self._subscriptions.drop, wanted.patterns)

    def _subscribe(self, change: Callable[[list[str]], list[str]], patterns: list[str]) -> None:
        try:
            held = change(patterns)
        except BadPatternError as error:
            self._error("validation_error", str(error))
        else:
            self._say(Subscribed(patterns=held))

    def _error(self, code: ErrorCode, message: str) -> None:
        self._say(ErrorMessage(code=code, message=message))

    # --- resuming ---------------------------------------------------------------------------

    async def _resume(self, text: str, *, hello: bool) -> bool:
        """Feed the client from its cursor on; False (and an error told) when that cannot be."""
        channel = self._channel
        try:
            positions = decode_cursor(text, channel.name, channel.incarnation, channel.keys)
            await self._broadcaster.check(channel, positions)
        except CursorError as error:
            self._error(error.code, str(error))
            return False
        except TransientError as error:
            self.end(WSCloseCode.TRY_AGAIN_LATER, f"the log is away: {error}"[:120])
            return True
        await self._stop_feeding()
        channel.listeners.discard(self)
        if hello:
            self._hello(text, resumed=True)
        self._feeder = self._start(self._feed(positions, tell=True), "websocket-feeder")
        return True

    async def _stop_feeding(self) -> None:
        if self._feeder is not None:
            await end(self._feeder)

    async def _feed(self, positions: dict[Key, Position], *, tell: bool) -> None:
        """Send everything behind `positions`, as fast as the client reads; then it hears live.

        With `tell` a last message says that what follows is live.
        """
        count = 0
        try:
            # First there must be room: for a client that never reads nothing is read, either.
            await self._send_with_room(b"", WSMsgType.PING)
            async with aclosing(
                self._broadcaster.replay(self._channel, positions, self)
            ) as messages:
                async for message in messages:
                    await self._send_with_room(message, WSMsgType.TEXT)
                    count += 1
        except TransientError as error:
            self.end(WSCloseCode.TRY_AGAIN_LATER, f"the log went away: {error}"[:120])
        except TimeoutError:
            self._cut_slow()
        except ConnectionError:
            self.end(WSCloseCode.ABNORMAL_CLOSURE, "the connection is gone")
        else:
            if tell:
                self._say(Resumed(count=count, cursor=self._channel.cursor()))

    async def _send_with_room(self, payload: bytes, kind: WSMsgType) -> None:
        """Send, then wait while half an outbox is full; TimeoutError: it does not empty."""
        async with asyncio.timeout(self._limits.stall_seconds):
            await self._ws.send_frame(payload, kind)


Greeting = Callable[[Connection], Coroutine[Any, Any, None]]


class LiveQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /ws/{channel}."""

    cursor: str | None = None
    """That of the last message seen: what came since is told first."""


def read_cursor(query: LiveQuery) -> str | None:
    """Return the cursor that the client connects with, cut to what a cursor can be."""
    text = query.cursor
    return text[: MAX_CURSOR_LENGTH + 1] if text else None


async def close(ws: web.WebSocketResponse, request: web.Request, code: int, reason: str) -> None:
    """Close politely for a moment, then drop the connection."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await ws.close(code=code, message=reason.encode()[:120])
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
