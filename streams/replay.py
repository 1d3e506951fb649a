"""Replay source: a stretch of the log with fixed ends, read in the order it came to be."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from domain.events import SYSTEM, Moment, SettingsApplied
from streams.envelope import START, Envelope, Position
from streams.history import History
from streams.log import EventLog

Value = TypeVar("Value")

STREAMS = ("batches", "assessments", "detections")


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


async def settings_told(history: History, log: EventLog) -> Timeline[SettingsApplied]:
    """Return the settings that the pipeline told the log, by when it took them in."""
    timeline: Timeline[SettingsApplied] = Timeline()
    async for run in history.read_all("system", log.partition_of(SYSTEM), START):
        for envelope in run:
            if isinstance(envelope.event, SettingsApplied):
                timeline.set(envelope.recorded_at, envelope.event)
    return timeline


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
