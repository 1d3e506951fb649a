"""Tails the log without a group and offers each envelope to every connection of its channel.

One task reads; each message is encoded and framed once, and what came in one read goes to a client
in one piece. A client that resumes, or whose outbox is full, is fed from the log by its own task,
as fast as it reads, until it has reached the tail; it joins the others in the same step of the
event loop, so nothing is missed and nothing comes twice. A burst thus cuts nobody, and a slow
client costs a bounded outbox and delays nobody.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from api.cursor import CursorError, Key, encode_cursor
from api.messages import MessageBuilder
from api.outgoing import encoded, text_frame
from domain.errors import TransientError
from domain.lateness import LATE_AFTER_SECONDS
from streams.envelope import START, Envelope, Position
from streams.log import EventLog

logger = logging.getLogger(__name__)

CHANNELS = {
    "events": ("assessments", "cameras", "scenes"),
    "system": ("system",),
    "detections": ("detections",),
}
"""WebSocket channel → the streams it tells of."""

READ_COUNT = 500
FEED_COUNT = 25
"""Entries of a stream's partition that are read at once for one client: a thousand clients may
come back at the same time, each with a cursor of long ago."""
BLOCK_MS = 5000
RETRY_SECONDS = 1.0
REACH_SECONDS = 10.0
"""How long a client whose cursor is ahead of this process waits for the tail to get there."""

PIECE_BYTES = 16_384
"""Frames are offered in pieces of about this size: several find room in one outbox."""


Told = Callable[[str, Envelope, int], None]
"""Is told of each message: channel, entry, and how many clients' sockets it was written to."""


class Listener(Protocol):
    """A connection as the broadcaster sees it."""

    key_id: str | None
    """The key that lets it in."""

    @property
    def waiting_bytes(self) -> int:
        """Return how much was sent to the client and has not left this process."""
        ...

    def hears(self, topic: str, camera_id: str) -> bool:
        """Say whether the client is told of a topic and of a camera."""
        ...

    def offer(self, frames: bytes) -> bool:
        """Send whole frames; False when its outbox is full. Never blocks."""
        ...

    def fall_behind(self, positions: dict[Key, Position]) -> None:
        """Stop listening live and read everything behind `positions` from the log instead."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close the connection."""
        ...


@dataclass(slots=True)
class Metrics:
    """What happened on one channel since the process started."""

    connections: int = 0
    refused: int = 0
    """Clients that came while there were as many as there may be."""
    messages: int = 0
    """Envelopes that became a message (once, however many clients got it)."""
    delivered: int = 0
    replayed: int = 0
    fell_behind: int = 0
    """Times that a client's outbox was full, so that it went on from the log."""
    cut_slow: int = 0


class _Framed(NamedTuple):
    topic: str
    camera_id: str
    frame: bytes
    envelope: Envelope


@dataclass(eq=False)
class Channel:
    """One WebSocket path: its streams, how far they are read, and who listens."""

    name: str
    keys: tuple[Key, ...]
    incarnation: str
    head: dict[Key, Position] = field(default_factory=dict)
    connections: set[Listener] = field(default_factory=set)
    """Every client, also those that are fed from the log at present."""
    listeners: set[Listener] = field(default_factory=set)
    """Those that hear what comes live."""
    metrics: Metrics = field(default_factory=Metrics)
    late_after_seconds: float = LATE_AFTER_SECONDS
    on_told: Told | None = None
    """Is told what was written to clients' sockets, where somebody wants to know."""
    builder: MessageBuilder = field(init=False)
    _piece: list[_Framed] = field(default_factory=list, init=False)
    _piece_bytes: int = field(default=0, init=False)
    _behind_piece: dict[Key, Position] = field(default_factory=dict, init=False)
    """Where a client goes on that has no room for the piece."""

    def __post_init__(self) -> None:
        self.builder = MessageBuilder(late_after_seconds=self.late_after_seconds)

    def cursor(self) -> str:
        """Return the cursor of the tail: everything up to here has been offered."""
        return encode_cursor(self.name, self.incarnation, self.head)

    async def take(self, envelopes: Sequence[Envelope]) -> None:
        """Move the tail past envelopes and offer their messages to every listener.

        Between two pieces others have their turn; at that moment the tail stands behind the first.
        """
        for envelope in envelopes:
            self._add(envelope)
            if self._piece_bytes >= PIECE_BYTES:
                self._offer()
                await asyncio.sleep(0)
        self._offer()

    def _add(self, envelope: Envelope) -> None:
        key = (envelope.stream, envelope.partition)
        if not self._piece:
            self._behind_piece = dict(self.head)
        self.head[key] = envelope.position
        message = self.builder.build(envelope, self.cursor())
        if message is None:
            return
        frame = text_frame(encoded(message))
        self._piece.append(_Framed(message.TOPIC, envelope.event.camera_id, frame, envelope))
        self._piece_bytes += len(frame)
        self.metrics.messages += 1

    def _offer(self) -> None:
        piece, self._piece, self._piece_bytes = self._piece, [], 0
        if not piece:
            return
        whole = b"".join([each.frame for each in piece])
        # A listener that falls behind leaves the set while we go through it.
        for listener in tuple(self.listeners):
            heard = [each.frame for each in piece if listener.hears(each.topic, each.camera_id)]
            if not heard:
                continue
            if listener.offer(whole if len(heard) == len(piece) else b"".join(heard)):
                self.metrics.delivered += len(heard)
            else:
                self.metrics.fell_behind += 1
                listener.fall_behind(dict(self._behind_piece))
        if self.on_told is not None:
            for each in piece:
                clients = sum(one.hears(each.topic, each.camera_id) for one in self.listeners)
                self.on_told(self.name, each.envelope, clients)

    def reached(self, positions: Mapping[Key, Position]) -> bool:
        """Tell whether the tail stands at or behind every one of `positions`."""
        return all(self.head[key] >= at for key, at in positions.items())


class Broadcaster:
    """Reads the tail of the log for all channels; `run` it as one task a process."""

    def __init__(
        self,
        log: EventLog,
        *,
        hear: Sequence[Callable[[Envelope], None]] = (),
        late_after_seconds: float = LATE_AFTER_SECONDS,
    ) -> None:
        self._log = log
        self._hear = hear
        """Are told every envelope in order, also those that no client is told of."""
        self._is_open = False
        self._moved = asyncio.Condition()
        self.error: str | None = None
        """Why the log cannot be read at present."""
        self.channels = {
            name: Channel(
                name,
                tuple((stream, p) for stream in streams for p in range(log.partitions)),
                log.incarnation,
                late_after_seconds=late_after_seconds,
            )
            for name, streams in CHANNELS.items()
        }
        self._channel_of = {
            stream: self.channels[name] for name, streams in CHANNELS.items() for stream in streams
        }

    async def open(self) -> None:
        """Take the present ends of the streams as the tail, once; raises without Redis."""
        if not self._is_open:
            for channel in self.channels.values():
                for key in channel.keys:
                    channel.head[key] = await self._log.newest(*key)
        self._is_open = True

    async def run(self) -> None:
        """Follow the log for ever; while Redis is away, ask again every second."""
        while True:
            try:
                if self.error is not None:
                    await self._resync()
                envelopes = await self._log.follow(
                    self._cursors(), count=READ_COUNT, block_ms=BLOCK_MS
                )
            except TransientError as error:
                if self.error is None:
                    logger.warning("the live feed waits for the log: %s", error)
                self.error = str(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if envelopes:
                await self._take(envelopes)

    async def _take(self, envelopes: list[Envelope]) -> None:
        # Redis answers stream by stream; clients are told in the order of time.
        envelopes.sort(key=lambda each: (each.position, each.stream, each.partition))
        runs: dict[Channel, list[Envelope]] = {}
        for envelope in envelopes:
            for hear in self._hear:
                hear(envelope)
            runs.setdefault(self._channel_of[envelope.stream], []).append(envelope)
        for channel, run in runs.items():
            await channel.take(run)
        async with self._moved:
            self._moved.notify_all()

    def _cursors(self) -> dict[Key, Position]:
        return {key: at for channel in self.channels.values() for key, at in channel.head.items()}

    async def _resync(self) -> None:
        """After an absence: a log whose end lies before our tail has lost its end; follow that."""
        for channel in self.channels.values():
            for key in channel.keys:
                newest = await self._log.newest(*key)
                if newest < channel.head[key]:
                    logger.error(
                        "stream %s/%d came back at %s, before %s: its last entries are lost",
                        *key,
                        newest,
                        channel.head[key],
                    )
                    channel.head[key] = newest
        logger.info("the live feed reads the log again")
        self.error = None

    # --- resuming ---------------------------------------------------------------------------

    async def check(self, channel: Channel, positions: Mapping[Key, Position]) -> None:
        """Raise CursorError unless the log still has everything behind `positions`."""
        for key, at in positions.items():
            if at > channel.head[key] and at > await self._log.newest(*key):
                raise CursorError(
                    "invalid_cursor",
                    "this cursor is ahead of the log, which has lost its newest entries",
                )
            if at in (START, channel.head[key]):
                continue
            oldest = await self._log.oldest(*key)
            # An empty stream that once had this entry has been trimmed as well.
            if at < oldest or (oldest == START and await self._log.newest(*key) > at):
                raise CursorError(
                    "cursor_too_old",
                    "the log no longer reaches back to this cursor; load the list again",
                )

    async def replay(
        self, channel: Channel, positions: Mapping[Key, Position], listener: Listener
    ) -> AsyncGenerator[bytes, None]:
        """Yield everything behind `positions` in order, then add `listener` to the live ones.

        When the iterator ends, the listener has joined; the next message comes live.
        """
        at = dict(positions)
        await self._wait_until_reached(channel, at)
        builder = MessageBuilder(channel.builder, late_after_seconds=channel.late_after_seconds)
        while not _same(at, channel.head):
            until = dict(channel.head)
            async for envelope in self._between(at, until):
                at[envelope.stream, envelope.partition] = envelope.position
                cursor = encode_cursor(channel.name, channel.incarnation, at)
                message = builder.build(envelope, cursor)
                if message is not None and listener.hears(message.TOPIC, envelope.event.camera_id):
                    channel.metrics.replayed += 1
                    yield encoded(message)
            # The entry that an end names may be gone, so the ends themselves count as reached.
            at = until
        channel.listeners.add(listener)

    async def _wait_until_reached(
        self, channel: Channel, positions: Mapping[Key, Position]
    ) -> None:
        """Wait for our tail where another process has served the client further than that."""
        try:
            async with asyncio.timeout(REACH_SECONDS), self._moved:
                await self._moved.wait_for(lambda: channel.reached(positions))
        except TimeoutError as error:
            raise TransientError("this server has not yet read up to the cursor") from error

    async def _between(
        self, after: Mapping[Key, Position], until: Mapping[Key, Position]
    ) -> AsyncIterator[Envelope]:
        """Yield the envelopes in (after, until] of all keys, by position and stream."""
        at = dict(after)
        ahead: dict[Key, list[Envelope]] = {key: [] for key in at if at[key] < until[key]}
        while ahead:
            for key in [key for key, waiting in ahead.items() if not waiting]:
                run = await self._log.read(*key, at[key], FEED_COUNT)
                ahead[key] = [envelope for envelope in run if envelope.position <= until[key]]
                if not ahead[key]:
                    del ahead[key]
                else:
                    at[key] = ahead[key][-1].position
                    ahead[key].reverse()
            if ahead:
                first = min(ahead, key=lambda key: (ahead[key][-1].position, key))
                yield ahead[first].pop()


def _same(at: Mapping[Key, Position], head: Mapping[Key, Position]) -> bool:
    return all(head[key] == position for key, position in at.items())
