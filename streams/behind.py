"""How many entries stand behind a position, without decoding them."""

from dataclasses import dataclass
from datetime import datetime

from streams.connection import redis_errors
from streams.envelope import Position
from streams.log import EventLog
from streams.names import stream_key

RUN = 1000


@dataclass(frozen=True, slots=True)
class Behind:
    """What a reader at some position has not read yet."""

    count: int
    more: bool
    """There is more than was counted."""
    oldest: datetime | None
    """When the first of them was recorded."""


async def entries_behind(
    log: EventLog, stream: str, partition: int, after: Position, at_most: int
) -> Behind:
    """Count the entries behind a position, up to `at_most`."""
    name = stream_key(partition, stream)
    count, oldest = 0, None
    while count <= at_most:
        async with redis_errors():
            entries = await log.client.xrange(name, min=str(after.next()), count=RUN)
        if not entries:
            break
        oldest = oldest or Position.parse(entries[0][0]).recorded_at
        count += len(entries)
        after = Position.parse(entries[-1][0])
    return Behind(min(count, at_most), count > at_most, oldest)
