"""Counts and checksums of a version's tables and the live ones."""

from dataclasses import dataclass
from typing import Final

from psycopg.sql import SQL, Identifier

from projections.database import Connection, one_row
from projections.read_model import ReadModel

# A sum of hashes does not depend on the order of the rows.
SUM: Final = SQL(
    """SELECT count(*), coalesce(sum(hash_record_extended(t, 0)::numeric), 0)::text
    FROM (SELECT {} FROM {}) t"""
)

# Every column counts but a generated one, which follows from the others (and may have no hash).
COLUMNS: Final = """
SELECT coalesce(array_agg(attname::text ORDER BY attname), '{}') FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """One table in both versions, at equal positions in the log."""

    table: str
    live_rows: int
    new_rows: int
    live_checksum: str
    new_checksum: str

    @property
    def equal(self) -> bool:
        """Tell whether both hold the same rows."""
        return (self.live_rows, self.live_checksum) == (self.new_rows, self.new_checksum)


async def compare(connection: Connection, model: ReadModel, schema: str) -> list[Compared]:
    """Compare every table of a read model as the connection's snapshot shows them."""
    found = []
    for table in model.tables:
        live_rows, live_checksum = await _summed(connection, Identifier("public", table))
        new_rows, new_checksum = await _summed(connection, Identifier(schema, table))
        found.append(Compared(table, live_rows, new_rows, live_checksum, new_checksum))
    return found


async def _summed(connection: Connection, table: Identifier) -> tuple[int, str]:
    (names,) = await one_row(connection, COLUMNS, {"table": table.as_string(connection)})
    columns = SQL(", ").join(map(Identifier, names))
    rows, checksum = await one_row(connection, SUM.format(columns, table))
    return int(rows), str(checksum)
