"""Queries for lineage: where facts stand in the log, and which files lay at a path."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg.sql import SQL

from projections.ledger_queries import FILE_COLUMNS
from projections.reading import Reader
from projections.rows import FileRow
from streams.envelope import Position
from streams.lookup import Place

ABOUT: Final = SQL(
    """SELECT about, stream, partition, ms, seq FROM positions
    WHERE about = ANY(%(subjects)s) ORDER BY ms, seq, stream"""
)

# All facts of one such subject lie in one partition, so their positions can be compared.
LAST: Final = SQL(
    """SELECT stream, partition, ms, seq FROM positions
    WHERE about = %(subject)s AND ms <= %(ms)s ORDER BY ms DESC, seq DESC LIMIT 1"""
)

FILES_AT: Final = SQL(
    """SELECT {} FROM file_states WHERE path = %(path)s
    ORDER BY received_at DESC, file_id LIMIT %(limit)s"""
).format(FILE_COLUMNS)

MOST_FILES_AT: Final = 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LineageQueries(Reader):
    """Reads of the positions."""

    async def places(self, subjects: Sequence[str]) -> dict[str, list[Place]]:
        """Return where the facts about each subject stand, in the order of their recording."""
        found: dict[str, list[Place]] = defaultdict(list)
        async with self._connected() as connection:
            cursor = await connection.execute(ABOUT, {"subjects": list(subjects)})
            for about, stream, partition, ms, seq in await cursor.fetchall():
                found[about].append(Place(stream, partition, Position(ms, seq)))
        return found

    async def last_place(self, subject: str, at: datetime) -> Place | None:
        """Return where the last fact about a subject stands that was recorded until `at`."""
        wanted = {"subject": subject, "ms": recorded_until(at)}
        async with self._connected() as connection:
            cursor = await connection.execute(LAST, wanted)
            row = await cursor.fetchone()
        if row is None:
            return None
        stream, partition, ms, seq = row
        return Place(stream, partition, Position(ms, seq))

    async def files_at(self, path: str) -> list[FileRow]:
        """Return the files that lay at a path below the base folder, the newest first."""
        return await self._all(FileRow, FILES_AT, {"path": path, "limit": MOST_FILES_AT})


def recorded_until(at: datetime) -> int:
    """Return the last millisecond of the log's clock that is not after `at`."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
