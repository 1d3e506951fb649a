"""One WebSocket connection: bounded outbox, one writer, heartbeat, resume, slow-client close."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import ClientConnectionResetError, WSCloseCode, WSMessage, WSMsgType, web

from api.broadcast import Broadcaster, Channel
from api.cursor import MAX_CURSOR_LENGTH, CursorError, Key, decode_cursor
from api.messages import ErrorMessage, Hello, Pong, Resumed, Subscribed
from api.subscriptions import BadPatternError, Subscriptions
from domain.errors import TransientError
from streams.envelope import Position

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""How long a client may take to answer a close before its connection is dropped."""

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold and how long it may be silent."""

    outbox_messages: int = 1024
    message_bytes: int = 65_536
    ping_seconds: float = 30.0
    idle_seconds: float = 300.0
    """A client that sends nothing for so long is closed; a ping is enough to stay."""
    stall_seconds: float = 30.0
    """How long a client that is behind may stop reading before it is cut."""


class _FromClient(msgspec.Struct):
    type: str
    cursor: str | None = None
    patterns: list[str] | None = None


_decoder = msgspec.json.Decoder(_FromClient)


class Connection:
    """A client of one channel, from its first message to its close."""

    def __init__(
        self, ws: web.WebSocketResponse, channel: Channel, broadcaster: Broadcaster, limits: Limits
    ) -> None:
        self._ws = ws
        self._channel = channel
        self._broadcaster = broadcaster
        self._limits = limits
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(limits.outbox_messages)
        self._ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()
        """Set by the writer whenever at least half of the outbox is free."""
        self._feeder: asyncio.Task[None] | None = None
        self._subscriptions = Subscriptions(channel.name)

    def wants(self, topic: str) -> bool:
        """Say whether the client has asked for messages of a topic; at first it gets all."""
        return topic in self._subscriptions

    def offer(self, message: bytes) -> bool:
        """Take a message for sending; False when the client has not read what came before."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            return False
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

    def _say(self, message: msgspec.Struct) -> None:
        if not self.offer(_encoder.encode(message)):
            self._cut_slow()

    # --- the life of a connection -----------------------------------------------------------

    async def run(self, cursor: str | None, greet: "Greeting") -> tuple[int, str]:
        """Serve the client until either side ends it; answer the close code and reason.

        `greet` offers what a client without a cursor is told first.
        """
        self._channel.metrics.connections += 1
        tasks = [
            self._start(self._write(), "websocket-writer"),
            self._start(self._begin(cursor, greet), "websocket-greeting"),
            self._start(self._read(), "websocket-reader"),
        ]
        try:
            return await self._ending
        finally:
            self._channel.listeners.discard(self)
            if self._feeder is not None:
                tasks.append(self._feeder)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._watch)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        """A task that fails ends its connection; the client may come back with its cursor."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed: %r", task.get_name(), error, exc_info=error)
            self.end(WSCloseCode.INTERNAL_ERROR, "internal error; reconnect with your cursor")

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

    async def _write(self) -> None:
        """Send what lies in the outbox, in order; the only place that sends."""
        while True:
            message = await self._outbox.get()
            if self._half_free():
                self._room.set()
            try:
                await self._ws.send_frame(message, WSMsgType.TEXT)
            except (ClientConnectionResetError, ConnectionError):
                self.end(WSCloseCode.ABNORMAL_CLOSURE, "the connection is gone")
                return

    async def _read(self) -> None:
        """Answer what the client sends until it leaves or falls silent."""
        while True:
            try:
                message = await self._ws.receive(timeout=self._limits.idle_seconds)
            except TimeoutError:
                idle = f"idle: nothing received for {self._limits.idle_seconds:g} s"
                self.end(WSCloseCode.OK, idle)
                return
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await self._handle(message)
            else:
                self.end(self._ws.close_code or WSCloseCode.ABNORMAL_CLOSURE, "the client left")
                return

    async def _handle(self, message: WSMessage) -> None:
        if message.type is WSMsgType.BINARY:
            self._error("invalid_message_format", "send text messages with JSON in them")
        elif message.data.strip() == "ping":
            self._say(Pong())
        else:
            await self._handle_json(message.data)

    async def _handle_json(self, text: str) -> None:
        try:
            wanted = _decoder.decode(text)
        except msgspec.ValidationError as error:
            form = 'send {"type":"ping"} or {"type":"resume","cursor":"…"}'
            self._error("invalid_message_format", f"{error}; {form}")
            return
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            self._error("invalid_json", f"this is not JSON: {error}")
            return
        match wanted:
            case _FromClient(type="ping"):
                self._say(Pong())
            case _FromClient(type="resume", cursor=str() as cursor):
                await self._resume(cursor, hello=False)
            case _FromClient(type="resume"):
                self._error("validation_error", "resume needs the cursor of the last message read")
            case _FromClient(type="subscribe" | "unsubscribe"):
                self._subscribe(wanted)
            case _:
                known = "this server knows ping, resume, subscribe and unsubscribe"
                self._error("unknown_message_type", f"{known}, not {wanted.type[:100]!r}")

    def _subscribe(self, wanted: _FromClient) -> None:
        change = (
            self._subscriptions.add if wanted.type == "subscribe" else self._subscriptions.drop
        )
        try:
            patterns = change(wanted.patterns)
        except BadPatternError as error:
            self._error("validation_error", f"{wanted.type}: {error}")
        else:
            self._say(Subscribed(patterns=patterns))

    def _error(self, code: str, message: str) -> None:
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
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)

    async def _feed(self, positions: dict[Key, Position], *, tell: bool) -> None:
        """Put everything behind `positions` into the outbox, as fast as the client reads.

        With `tell` a last message says that what follows is live.
        """
        count = 0
        try:
            async with aclosing(
                self._broadcaster.replay(self._channel, positions, self)
            ) as messages:
                async for message in messages:
                    await self._wait_for_room()
                    self.offer(message)
                    count += 1
        except TransientError as error:
            self.end(WSCloseCode.TRY_AGAIN_LATER, f"the log went away: {error}"[:120])
        except TimeoutError:
            self._cut_slow()
        else:
            if tell:
                self._say(Resumed(count=count, cursor=self._channel.cursor()))

    async def _wait_for_room(self) -> None:
        """Leave half of the outbox to what comes live; raises TimeoutError on a stalled client."""
        async with asyncio.timeout(self._limits.stall_seconds):
            while not self._half_free():
                self._room.clear()
                await self._room.wait()

    def _half_free(self) -> bool:
        return self._outbox.qsize() * 2 <= self._limits.outbox_messages


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
