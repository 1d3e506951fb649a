"""Checkpoints: how far a projection has applied each partition of its streams."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from domain.errors import HsiError
from projections.database import Connection
from projections.read_model import ReadModel
from streams.envelope import Envelope, Position
from streams.log import EventLog

Lane = tuple[str, int]
"""One partition of one stream."""

Cursors = dict[Lane, Position]

Moved = AsyncCursor[TupleRow]
"""PostgreSQL's answer, in a pipeline perhaps still to come."""

FOUND: Final = """
INSERT INTO checkpoints (projection, version, stream, partition, ms, seq, incarnation, updated_at)
SELECT %(projection)s, %(version)s, stream, partition, 0, 0, %(incarnation)s, now()
FROM json_to_recordset(%(lanes)s::json) AS r (stream text, partition integer)
ON CONFLICT DO NOTHING
"""

LOAD: Final = """
SELECT stream, partition, ms, seq, incarnation FROM checkpoints
WHERE projection = %(projection)s AND version = %(version)s
"""

NEWER: Final = """
SELECT max(version) FROM checkpoints
WHERE projection = %(projection)s HAVING max(version) > %(version)s
"""

# Compare-and-swap of several lanes: moves only those that stand where the reader left them.
MOVE: Final = """
UPDATE checkpoints AS c SET ms = r.ms, seq = r.seq, updated_at = now()
FROM json_to_recordset(%(lanes)s::json) AS r (
    stream text, partition integer, old_ms bigint, old_seq bigint, ms bigint, seq bigint)
WHERE c.projection = %(projection)s AND c.version = %(version)s
  AND c.stream = r.stream AND c.partition = r.partition
  AND c.ms = r.old_ms AND c.seq = r.old_seq AND c.incarnation = %(incarnation)s
"""


class CheckpointConflictError(HsiError):
    """Somebody else has moved the checkpoint: what was read behind it is to be dropped."""


class ForeignCheckpointError(HsiError):
    """The checkpoint does not belong to this log; applying more would mix two histories."""


class OtherLogError(ForeignCheckpointError):
    """The checkpoint was made in another life of the log."""


class AheadOfLogError(ForeignCheckpointError):
    """The log has lost its end, and the checkpoint stands on what is lost."""

    def __init__(self, projection: str, lane: Lane, position: Position) -> None:
        stream, partition = lane
        super().__init__(
            f"the read model {projection} has applied {stream}/{partition} up to {position} "
            f"(recorded {position.recorded_at:%Y-%m-%d %H:%M:%S} UTC), which the log no longer "
            "holds: the log has lost its end. `hsi projections rebuild all` makes the tables "
            "anew from what it holds, a running role `project` does it by itself"
        )


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one version of one projection, in the log of one incarnation."""

    projection: str
    version: int
    incarnation: str

    @classmethod
    def of(cls, read_model: ReadModel, incarnation: str) -> "Checkpoints":
        """Return the checkpoints of a read model."""
        return cls(read_model.name, read_model.version, incarnation)

    async def load(self, connection: Connection, lanes: Iterable[Lane]) -> Cursors:
        """Return the position of every lane, founding those that are new at the beginning.

        Raises OtherLogError when a checkpoint was made in another life of the log,
        ForeignCheckpointError when newer software has made it.
        """
        wanted = list(lanes)
        newer = await (await connection.execute(NEWER, self._values())).fetchone()
        if newer is not None:
            raise ForeignCheckpointError(
                f"the read model {self.projection} follows version {newer[0]} of its rules, this "
                f"software knows version {self.version} only: end this process and run the newer "
                "software, or switch back with its `hsi projections rollback`"
            )
        founding = msgspec.json.encode([{"stream": s, "partition": p} for s, p in wanted])
        await connection.execute(FOUND, self._values() | {"lanes": founding.decode()})
        cursor = await connection.execute(LOAD, self._values())
        found: Cursors = {}
        for stream, partition, ms, seq, incarnation in await cursor.fetchall():
            if incarnation != self.incarnation:
                raise OtherLogError(
                    f"the read model {self.projection} was filled from another log "
                    f"({incarnation}) than the one at REDIS_URL ({self.incarnation}): point "
                    "REDIS_URL at that log; if that log is gone for good, make the tables anew "
                    "from this one with `hsi projections rebuild all --accept-differences`"
                )
            found[stream, partition] = Position(ms, seq)
        return {lane: found[lane] for lane in wanted}

    async def move(self, connection: Connection, old: Cursors, new: Cursors) -> None:
        """Move the lanes of `new`; raises CheckpointConflictError unless all stood at `old`."""
        self.check(await self.ask_to_move(connection, old, new), new)

    async def ask_to_move(self, connection: Connection, old: Cursors, new: Cursors) -> Moved:
        """Do the same in a pipeline; `check` the answer once it is there, before the commit."""
        lanes = [
            {
                "stream": lane[0],
                "partition": lane[1],
                "old_ms": old[lane].ms,
                "old_seq": old[lane].seq,
                "ms": position.ms,
                "seq": position.seq,
            }
            for lane, position in sorted(new.items())
        ]
        values = self._values() | {"lanes": msgspec.json.encode(lanes).decode()}
        return await connection.execute(MOVE, values)

    def check(self, moved: Moved, new: Cursors) -> None:
        """Raise CheckpointConflictError unless all lanes of `new` were moved."""
        if moved.rowcount != len(new):
            raise CheckpointConflictError(f"another process has moved {self.projection}")

    def _values(self) -> dict[str, object]:
        return {
            "projection": self.projection,
            "version": self.version,
            "incarnation": self.incarnation,
        }


async def lost_lane(log: EventLog, cursors: Cursors) -> Lane | None:
    """Return a lane whose log has lost what the cursor stands on; None when all is well."""
    for (stream, partition), position in cursors.items():
        if await log.has_lost(stream, partition, position):
            return stream, partition
    return None


def ends_of(envelopes: Iterable[Envelope]) -> Cursors:
    """Return the last position of each lane in a run that is in log order within each lane."""
    return {(each.stream, each.partition): each.position for each in envelopes}
