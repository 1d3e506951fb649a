"""How much room the files and tables take, and how fast that grows."""

from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from projections.reading import Reader
from projections.rows import Row

STORED: Final = SQL(
    """SELECT media, count(*) AS files, COALESCE(sum(size_bytes), 0)::bigint AS bytes
    FROM files WHERE media IS NOT NULL AND NOT EXISTS (
        SELECT FROM redacted_files r WHERE r.file_id = files.file_id)
    GROUP BY 1"""
)

TAKEN_IN: Final = SQL(
    """SELECT count(*) AS files, COALESCE(sum(size_bytes), 0)::bigint AS bytes,
        min(received_at) AS first_at
    FROM files WHERE received_at >= %(since)s"""
)

# What the planner goes by: counting millions of rows would take longer than anybody waits.
TABLES: Final = SQL(
    """SELECT relname AS name, greatest(reltuples, 0)::bigint AS rows_estimated,
        pg_total_relation_size(oid) AS bytes
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    ORDER BY bytes DESC, name"""
)


class StoredFiles(Row, frozen=True, kw_only=True):
    """The files of one kind that are kept."""

    media: str
    files: int
    bytes: int


class TakenIn(Row, frozen=True, kw_only=True):
    """What came in since a moment."""

    files: int
    bytes: int
    first_at: datetime | None


class TableSize(Row, frozen=True, kw_only=True):
    """A table with its indexes."""

    name: str
    rows_estimated: int
    bytes: int


class StorageQueries(Reader):
    """Reads of sizes."""

    async def stored_files(self) -> list[StoredFiles]:
        """Return how many files of each kind are kept."""
        return await self._all(StoredFiles, STORED)

    async def taken_in(self, since: datetime) -> TakenIn:
        """Return how much came in since a moment."""
        row = await self._first(TakenIn, TAKEN_IN, {"since": since})
        return row or TakenIn(files=0, bytes=0, first_at=None)

    async def table_sizes(self) -> list[TableSize]:
        """Return every table, the largest first."""
        return await self._all(TableSize, TABLES)
