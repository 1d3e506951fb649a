"""Bookmark: how far a reader without a consumer group has got in every lane, kept in Redis.

Unlike a group it holds nothing up: retention trims past it, and the reader says what it missed.
It is written only by who holds the reader's lease.
"""

from collections.abc import Mapping
from typing import Final

from domain.events import SYSTEM
from streams.connection import Script, redis_errors
from streams.envelope import Position
from streams.lease import Lease
from streams.log import EventLog
from streams.names import key

Lane = tuple[str, int]

WRITE: Final = """
-- KEYS: lease, bookmark. ARGV: token, then lane and position in turn.
-- Returns 1, or 0 when the lease is somebody else's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
"""

_write = Script(WRITE)


class Bookmark:
    """The place of one reader, and the lease that goes with it."""

    def __init__(self, log: EventLog, reader: str) -> None:
        # One key in one slot, whatever the partitions: it is written once a second at most.
        partition = log.partition_of(SYSTEM)
        self.lease = Lease(log, reader, partition)
        self._log = log
        self._key = key(partition, "bookmark", reader)

    async def load(self) -> dict[Lane, Position]:
        """Return how far each lane was read; a lane never read is missing."""
        async with redis_errors():
            stored = await self._log.client.hgetall(self._key)
        found = {}
        for name, position in stored.items():
            stream, _, partition = name.decode().rpartition("/")
            found[stream, int(partition)] = Position.parse(position)
        return found

    async def store(self, places: Mapping[Lane, Position]) -> bool:
        """Keep how far these lanes were read; False when the lease is somebody else's."""
        arguments = [self.lease.token]
        for (stream, partition), position in places.items():
            arguments += [f"{stream}/{partition}", str(position)]
        keys = [self.lease.key, self._key]
        return bool(await _write.run(self._log.client, keys, arguments))
