"""Traces: follows the log and sends what it says as spans; nothing ever waits for it.

Its place is a bookmark, not a consumer group, so it holds no retention up: what was trimmed before
it got there is skipped, and it says so. The bookmark moves after the collector took the spans: a
killed process sends its last run again, with the same ids. While the collector is away one run is
held and tried again; everything behind it stays where it is, in the log.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from domain.errors import ServiceUnavailableError
from domain.spans import Span
from runtime.span_outbox import Exporter
from runtime.tasks import end, is_set_within, unless_stopped
from streams.bookmark import Bookmark, Lane
from streams.ends import ends_of
from streams.envelope import Envelope, Position
from streams.history import trimmed_below
from streams.lease import RENEW_SECONDS
from streams.log import EventLog
from streams.spans import READER, TRACED, OpenBatches, spans_of

logger = logging.getLogger(__name__)

READ_RUN: Final = 100
"""Entries of a lane that are read at once."""
SEND_RUN: Final = 500
BLOCK_MS: Final = 5000
PACE_SECONDS: Final = 1.0
"""Between two reads of a log that is read to its end: what comes meanwhile is sent together."""
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0

Places = dict[Lane, Position]


class Traces:
    """Sends the log's spans; of several processes one does, the others stand by."""

    def __init__(self, log: EventLog, exporter: Exporter, *, read_run: int = READ_RUN) -> None:
        self._log = log
        self._exporter = exporter
        self._read_run = read_run
        self._bookmark = Bookmark(log, READER)
        self._batches = OpenBatches()
        self._held = False
        """The collector was away meanwhile."""

    async def run(self, stop: asyncio.Event) -> None:
        """Send spans until `stop` is set."""
        lease = self._bookmark.lease
        while not stop.is_set():
            try:
                if await lease.acquire() or await lease.renew():
                    await self._owned(stop)
            except ServiceUnavailableError as error:
                logger.warning("traces wait for Redis: %s", error)
            await is_set_within(stop, RENEW_SECONDS)

    async def _owned(self, stop: asyncio.Event) -> None:
        """Follow the log until `stop` is set or the lease is somebody else's."""
        ending = asyncio.Event()
        keeper = asyncio.create_task(self._keep(stop, ending), name="traces lease")
        try:
            await self._follow(ending)
        finally:
            await end(keeper)
        await self._bookmark.lease.release()

    async def _keep(self, stop: asyncio.Event, ending: asyncio.Event) -> None:
        """Renew the lease; set `ending` once it is lost or the role stops."""
        while not await is_set_within(stop, RENEW_SECONDS):
            try:
                if not await self._bookmark.lease.renew():
                    logger.warning("another process sends the traces now")
                    break
            except ServiceUnavailableError:
                continue  # The reader says so; the bookmark is fenced by the token all the same.
        ending.set()

    async def _follow(self, ending: asyncio.Event) -> None:
        places = await self._open()
        while not ending.is_set():
            reading = self._log.follow(places, count=self._read_run, block_ms=BLOCK_MS)
            envelopes = await unless_stopped(ending, reading)
            if not envelopes:
                continue
            # Lanes come one after the other; a batch is opened before it is closed all the same.
            envelopes.sort(key=lambda each: each.position)
            if not await self._deliver(spans_of(envelopes, self._batches), ending):
                return
            moved = _ends(envelopes)
            if not await self._bookmark.store(moved):
                return
            places |= moved
            if self._held or len(envelopes) >= self._read_run:
                self._held = False
                places = await self._past_what_is_gone(places)
            else:
                await is_set_within(ending, PACE_SECONDS)

    async def _open(self) -> Places:
        """Return where to go on: where the bookmark lies, or at the log's end the first time."""
        lanes = [(stream, p) for stream in TRACED for p in range(self._log.partitions)]
        stored, newest = await self._bookmark.load(), await ends_of(self._log, TRACED)
        places = {lane: min(stored.get(lane, newest[lane]), newest[lane]) for lane in lanes}
        await self._bookmark.store(places)
        return await self._past_what_is_gone(places)

    async def _past_what_is_gone(self, places: Places) -> Places:
        """Return the places, none of them in what retention has trimmed; say what is missed."""
        moved = dict(places)
        for (stream, partition), place in places.items():
            trimmed = await trimmed_below(self._log, stream, partition)
            if trimmed > place.next():
                moved[stream, partition] = trimmed.before()
                logger.warning(
                    "traces skip what %s/%d recorded from %s to %s: it was trimmed unsent",
                    stream,
                    partition,
                    place.recorded_at.isoformat(timespec="seconds"),
                    trimmed.recorded_at.isoformat(timespec="seconds"),
                )
        return moved

    async def _deliver(self, spans: Sequence[Span], ending: asyncio.Event) -> bool:
        """Send spans, however long the collector is away; False when told to end meanwhile."""
        wait, sent = FIRST_WAIT_SECONDS, 0
        while sent < len(spans):
            run = spans[sent : sent + SEND_RUN]
            if await self._taken(run):
                wait, sent = FIRST_WAIT_SECONDS, sent + len(run)
                continue
            self._held = True
            logger.warning("traces wait for the collector: %s", self._exporter.reason)
            if await is_set_within(ending, wait):
                return False
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
        return True

    async def _taken(self, run: Sequence[Span]) -> bool:
        """Send a run; what a living collector refuses is left out, so that the rest goes on."""
        if await self._exporter.send(run):
            return True
        reason = self._exporter.reason
        if not await self._exporter.send(()):
            return False
        if len(run) == 1:
            logger.error("the collector refuses span %s (%s): left out", run[0].name, reason)
            return True
        half = len(run) // 2
        return await self._taken(run[:half]) and await self._taken(run[half:])


def _ends(envelopes: Sequence[Envelope]) -> Places:
    return {(each.stream, each.partition): each.position for each in envelopes}
