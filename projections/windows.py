"""Windows: the log's whole past in runs that are cut at the same moment in every lane.

What belongs to one picture (received, detected, batched, assessed) stands in several streams,
close together in time. A window holds of every lane what was recorded up to one moment, so nearly
every picture is told in one window and becomes one row there.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import Protocol

from projections.checkpoints import Cursors, Lane
from streams.envelope import Envelope, Position

READ_RUN = 1000
"""Envelopes read of one lane at once."""


class Past(Protocol):
    """Archive and stream, read as one."""

    def read_all(
        self, stream: str, partition: int, after: Position = ..., *, count: int = ...
    ) -> AsyncIterator[list[Envelope]]:
        """Give everything behind `after`, oldest first, in lists of up to `count`."""
        ...


class Windows:
    """Reads every lane from its cursor to its end, one window at a time."""

    def __init__(self, past: Past, cursors: Cursors, ends: Cursors, count: int = READ_RUN) -> None:
        """Read behind `cursors` up to `ends`: a log that grows is not run after."""
        self._ends = ends
        self._count = count
        self._readers = {
            (stream, partition): past.read_all(stream, partition, after, count=count)
            for (stream, partition), after in cursors.items()
        }
        self._read: dict[Lane, list[Envelope]] = {lane: [] for lane in cursors}
        self._ended = {lane for lane, after in cursors.items() if after >= ends[lane]}

    async def next(self) -> dict[Lane, list[Envelope]]:
        """Return the next window, the lanes that have something in it; nothing at the end."""
        await self._fill()
        open_ends = [
            read[-1].position.ms for lane, read in self._read.items() if lane not in self._ended
        ]
        if not open_ends:
            rest = {lane: read for lane, read in self._read.items() if read}
            self._read = {lane: [] for lane in self._read}
            return rest
        # Of the millisecond in which a lane was cut off more may follow: it is left for later,
        # unless it is all that was read (then order within the lane is still the log's).
        until = min(open_ends)
        taken = {lane: self._take(lane, until) for lane in self._read}
        if not any(taken.values()):
            taken = {lane: self._take(lane, until + 1) for lane in self._read}
        return {lane: run for lane, run in taken.items() if run}

    async def _fill(self) -> None:
        low = [lane for lane, read in self._read.items() if len(read) < self._count // 2 + 1]
        await asyncio.gather(*[self._fill_lane(lane) for lane in low if lane not in self._ended])

    async def _fill_lane(self, lane: Lane) -> None:
        run = await anext(self._readers[lane], None)
        if run is None:
            self._ended.add(lane)
            return
        if run[-1].position >= self._ends[lane]:
            self._ended.add(lane)
            run = [envelope for envelope in run if envelope.position <= self._ends[lane]]
        self._read[lane] = self._read[lane] + run

    def _take(self, lane: Lane, before_ms: int) -> list[Envelope]:
        """Take off what was recorded before a moment."""
        read = self._read[lane]
        if read and read[-1].position.ms < before_ms:
            self._read[lane] = []
            return read
        cut = bisect_left(read, before_ms, key=lambda envelope: envelope.position.ms)
        self._read[lane] = read[cut:]
        return read[:cut]
