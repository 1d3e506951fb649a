"""Single entries by their position: from the stream, or from the archive once it was trimmed."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.connection import redis_errors
from streams.envelope import Envelope, Position
from streams.log import EventLog
from streams.names import stream_key
from streams.segments import ArchiveError

ASK_RUN = 500
"""Entries one round trip asks for at most."""
NEAR_RUN = 200
"""Entries read from the archive at once: those of one picture or batch lie close together."""

_LAST_SEQ = 2**64 - 1


class Place(NamedTuple):
    """Where an entry stands: which partition of which stream, and where in it."""

    stream: str
    partition: int
    position: Position


class Past(Protocol):
    """What reads a stream's whole past, archive included (`streams.history.History`)."""

    def read_all(
        self, stream: str, partition: int, after: Position, *, count: int
    ) -> AsyncIterator[list[Envelope]]:
        """Give everything behind `after`, oldest first, in lists of up to `count`."""
        ...


class Found(NamedTuple):
    """What a lookup found, and why it may lack something."""

    entries: dict[Place, Envelope]
    """A place that neither the log nor the archive has is left out."""
    troubles: tuple[str, ...] = ()
    """What the archive says of itself, if it cannot be read."""


class Lookup:
    """Finds entries by place: the log in one round trip, the archive for what it no longer has."""

    def __init__(self, log: EventLog, past: Past) -> None:
        self._log = log
        self._past = past

    async def find(self, places: Iterable[Place]) -> Found:
        """Return the envelopes that still exist."""
        wanted = sorted(set(places))
        found: dict[Place, Envelope] = {}
        for start in range(0, len(wanted), ASK_RUN):
            found |= await self._in_stream(wanted[start : start + ASK_RUN])
        missing = [place for place in wanted if place not in found]
        try:
            while missing:
                found |= await self._in_past(missing)
                # The first of them has been looked for, whether it was there or not.
                missing = [place for place in missing[1:] if place not in found]
        except ArchiveError as error:
            return Found(found, (str(error),))
        return Found(found)

    async def _in_stream(self, places: Sequence[Place]) -> dict[Place, Envelope]:
        pipeline = self._log.client.pipeline(transaction=False)
        for place in places:
            at = str(place.position)
            pipeline.xrange(stream_key(place.partition, place.stream), min=at, max=at, count=1)
        async with redis_errors():
            answers = await pipeline.execute()
        return {
            place: self._log.codec.decode_or_mark(place.stream, place.partition, *entries[0])
            for place, entries in zip(places, answers, strict=True)
            if entries
        }

    async def _in_past(self, missing: Sequence[Place]) -> Mapping[Place, Envelope]:
        """Return those of `missing` that lie in one read from the first of them on."""
        stream, partition, position = missing[0]
        wanted = set(missing)
        runs = self._past.read_all(stream, partition, before(position), count=NEAR_RUN)
        async for run in runs:
            places = {Place(stream, partition, each.position): each for each in run}
            return {place: each for place, each in places.items() if place in wanted}
        return {}


def before(position: Position) -> Position:
    """Return the largest position before this one."""
    if position.seq:
        return Position(position.ms, position.seq - 1)
    return Position(position.ms - 1, _LAST_SEQ)
