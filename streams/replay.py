"""Replay source: a stretch of the log with fixed ends, read in the order it came to be."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from domain.events import SYSTEM, Moment, SettingsApplied
from streams.envelope import START, Envelope, Position
from streams.history import History
from streams.log import EventLog
from streams.lookup import Lookup, Place

Value = TypeVar("Value")

STREAMS = ("batches", "assessments", "detections")

_TICK = timedelta(milliseconds=1)
"""What the log's clock tells apart."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay of one partition ends, taken once, so that a resumed run sees the same."""

    handled: Moment
    """Up to when the pictures had been batched."""
    ends: dict[str, Position]
    """Stream → its last position."""

    @classmethod
    async def of(cls, log: EventLog, partition: int) -> "Bounds":
        """Take the present ends; what was batched before `handled` lies before the ends."""
        handled = await log.handled_until("batch", partition)
        ends = {stream: await log.newest(stream, partition) for stream in STREAMS}
        return cls(handled=handled, ends=ends)


class Timeline(Generic[Value]):
    """A value that changes from time to time on the log's clock."""

    def __init__(self) -> None:
        self._since: list[datetime] = []
        self._values: list[Value] = []

    def __len__(self) -> int:
        return len(self._since)

    def set(self, since: datetime, value: Value) -> None:
        """Add the newest value."""
        self._since.append(since)
        self._values.append(value)

    def at(self, moment: datetime) -> Value:
        """Return the value in force; before the first one, the first one."""
        return self._values[max(bisect_right(self._since, moment) - 1, 0)]

    def items(self) -> list[tuple[datetime, Value]]:
        """Return every value with when it began."""
        return list(zip(self._since, self._values, strict=True))

    def values(self) -> list[Value]:
        """Return every value there was."""
        return list(self._values)

    def within(self, begin: datetime, end: datetime) -> list[tuple[datetime, Value]]:
        """Return the value in force at `begin` and every later one up to `end`."""
        first = max(bisect_right(self._since, begin) - 1, 0)
        return self.items()[first : max(bisect_right(self._since, end), first + 1)]


def before(moment: datetime) -> Position:
    """Return the position behind which everything recorded at `moment` or later stands."""
    return Position(max(int(moment.timestamp() * 1000) - 1, 0), 2**64 - 1)


async def until(
    history: History, stream: str, partition: int, after: Position, end: Position
) -> AsyncIterator[list[Envelope]]:
    """Give what stands behind `after` up to and with `end`."""
    async for run in history.read_all(stream, partition, after):
        if run[-1].position <= end:
            yield run
            continue
        yield [envelope for envelope in run if envelope.position <= end]
        return


async def in_order(
    causes: AsyncIterator[list[Envelope]], effects: AsyncIterator[list[Envelope]]
) -> AsyncIterator[Envelope]:
    """Merge two streams of one partition by the log's clock; at the same time causes go first."""
    left, right = _Ahead(causes), _Ahead(effects)
    while True:
        cause, effect = await left.peek(), await right.peek()
        if cause is not None and (effect is None or cause.recorded_at <= effect.recorded_at):
            yield left.take()
        elif effect is not None:
            yield right.take()
        else:
            return


async def settings_told(
    history: History, log: EventLog, end: datetime, positions: Sequence[Position] | None = None
) -> Timeline[SettingsApplied]:
    """Return the settings that the pipeline told the log up to `end`, by when it took them in.

    `positions` are where they stand, if that is known; else the stream is gone through, past all
    the readings that stand in it too.
    """
    partition = log.partition_of(SYSTEM)
    timeline: Timeline[SettingsApplied] = Timeline()
    if positions is not None:
        places = [Place("system", partition, position) for position in positions]
        found = await Lookup(log, history).find(places)
        if not found.troubles and len(found.entries) == len(places):
            _take_settings(timeline, [found.entries[place] for place in sorted(places)], end)
            return timeline
    async for run in history.read_all("system", partition, START):
        _take_settings(timeline, run, end)
        if run[-1].recorded_at > end:
            break
    return timeline


def _take_settings(
    timeline: Timeline[SettingsApplied], run: Sequence[Envelope], end: datetime
) -> None:
    for envelope in run:
        if isinstance(envelope.event, SettingsApplied) and envelope.recorded_at <= end:
            timeline.set(counts_from(envelope), envelope.event)


def counts_from(told: Envelope) -> datetime:
    """Return from when settings count: for all that is recorded after them, to the millisecond.

    What was recorded before they were may have been decided by then, in the same millisecond too.
    """
    return told.recorded_at + _TICK


async def cameras_told(history: History, log: EventLog, take: Callable[[Envelope], None]) -> None:
    """Tell `take` everything that the log holds about cameras."""
    for partition in range(log.partitions):
        async for run in history.read_all("cameras", partition, START):
            for envelope in run:
                take(envelope)


class _Ahead:
    """Envelopes of a reader, one by one, with a look at the next."""

    def __init__(self, runs: AsyncIterator[list[Envelope]]) -> None:
        self._runs = runs
        self._run: list[Envelope] = []
        self._index = 0

    async def peek(self) -> Envelope | None:
        """Return the next envelope without taking it, None at the end."""
        while self._index >= len(self._run):
            run = await anext(self._runs, None)
            if run is None:
                return None
            self._run, self._index = run, 0
        return self._run[self._index]

    def take(self) -> Envelope:
        """Return the envelope that `peek` has shown."""
        self._index += 1
        return self._run[self._index - 1]
