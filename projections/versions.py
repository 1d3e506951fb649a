"""Versions of a read model's tables: which is live, being built, built or kept, and where."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from domain.errors import HsiError
from projections.bulk import EDGE, ORDER
from projections.database import Connection, one_row
from projections.read_model import ReadModel

State = Literal["building", "built", "live", "kept"]

CHECKS: Final = ("checkpoints", "refused_events")
"""Tables of every version: how far it is, and what was refused on the way."""

COLUMNS: Final = """projection, version, state, rule_version, incarnation, events, started_at,
    switched_at"""

FIRST: Final = """
INSERT INTO projection_versions (
    projection, version, state, rule_version, incarnation, started_at)
SELECT %(projection)s, 1, 'live',
    COALESCE((SELECT max(version) FROM checkpoints WHERE projection = %(projection)s),
             %(rule_version)s),
    %(incarnation)s, now()
WHERE NOT EXISTS (SELECT FROM projection_versions WHERE projection = %(projection)s)
"""

BEGIN: Final = f"""
INSERT INTO projection_versions (
    projection, version, state, rule_version, incarnation, started_at)
SELECT %(projection)s, 1 + max(version), 'building', %(rule_version)s, %(incarnation)s, now()
FROM projection_versions WHERE projection = %(projection)s
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

FIND: Final = f"SELECT {COLUMNS} FROM projection_versions WHERE projection = %s"  # noqa: S608

FORGET: Final = "DELETE FROM projection_versions WHERE projection = %s AND version = %s"

SET_STATE: Final = """
UPDATE projection_versions SET state = %(new)s
WHERE projection = %(projection)s AND version = %(version)s AND state = %(old)s
"""

COUNT_EVENTS: Final = """
UPDATE projection_versions SET events = events + %s WHERE projection = %s AND version = %s
"""

OPTIONS: Final = """
SELECT reloptions FROM pg_class WHERE oid = ('public.' || quote_ident(%s))::regclass
"""

# Only what no constraint brings with it; the primary keys come by PRIMARY_KEYS.
INDEXES: Final = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = ('public.' || quote_ident(%s))::regclass
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
"""

CONSTRAINTS: Final = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = ('public.' || quote_ident(%s))::regclass AND contype IN ('p', 'u', 'x')
"""

HAS_TABLES: Final = """
SELECT bool_and(to_regclass(quote_ident(%(schema)s) || '.' || quote_ident(t)) IS NOT NULL)
FROM unnest(%(tables)s::text[]) AS t
"""

COLUMNS_OF: Final = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))
  AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class VersionConflictError(HsiError):
    """Somebody else has changed which version is live or being built."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a read model's tables."""

    projection: str
    version: int
    state: State
    rule_version: int
    incarnation: str
    events: int
    """Taken from the log by the rebuild; 0 for a version that grew with the log."""
    started_at: datetime
    switched_at: datetime | None

    @property
    def schema(self) -> str:
        """Return the schema of its tables while it is not live."""
        return f"hsi_{self.projection}_v{self.version}"


async def versions_of(
    connection: Connection, model: ReadModel, incarnation: str
) -> dict[State, Version]:
    """Return the versions by state; the live one is always there."""
    values = {
        "projection": model.name,
        "rule_version": model.version,
        "incarnation": incarnation,
    }
    await connection.execute(FIRST, values)
    cursor = connection.cursor(row_factory=class_row(Version))
    await cursor.execute(FIND, (model.name,))
    return {version.state: version for version in await cursor.fetchall()}


async def begin(connection: Connection, model: ReadModel, incarnation: str) -> Version:
    """Make the empty tables of a new version, without what slows the filling down."""
    values = {
        "projection": model.name,
        "rule_version": model.version,
        "incarnation": incarnation,
    }
    cursor = connection.cursor(row_factory=class_row(Version))
    await cursor.execute(BEGIN, values)
    (version,) = await cursor.fetchall()
    await connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(version.schema)))
    for table in model.tables:
        like = "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE)"
        names = Identifier(version.schema, table), Identifier("public", table)
        await connection.execute(SQL(like).format(*names))
        await connection.execute(
            SQL("ALTER TABLE {} SET (autovacuum_enabled = false)").format(names[0])
        )
    await make_checks(connection, version.schema)
    return version


async def make_checks(connection: Connection, schema: str) -> None:
    """Make the tables for checkpoint and refused events of a version that is not live."""
    for table in CHECKS:
        like = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
        names = Identifier(schema, table), Identifier("public", table)
        await connection.execute(like.format(*names))


async def add_order(connection: Connection, version: Version, model: ReadModel) -> None:
    """Give each row the place of its run, and make the table of deferred writes.

    Does nothing where that was done; what other software has begun gets what it lacks.
    """
    await enter(connection, version.schema)
    for table in model.tables:
        add = SQL(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} bigint, ADD COLUMN IF NOT EXISTS {} text"
        )
        await connection.execute(add.format(*map(Identifier, (table, ORDER, EDGE))))
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS deferred_writes (number bigserial, statement text, rows text)"
    )


async def drop_order(connection: Connection, model: ReadModel) -> None:
    """Undo `add_order`."""
    for table in model.tables:
        drop = SQL("ALTER TABLE {} DROP COLUMN {}, DROP COLUMN {}")
        await connection.execute(drop.format(*map(Identifier, (table, ORDER, EDGE))))
    await connection.execute("DROP TABLE deferred_writes")


async def enter(connection: Connection, schema: str) -> None:
    """Let the tables of a version stand before the live ones until the transaction's end."""
    await connection.execute(SQL("SET LOCAL search_path TO {}, public").format(Identifier(schema)))


async def add_constraints(connection: Connection, version: Version, table: str) -> None:
    """Give a table being built the live one's keys."""
    found = await connection.execute(CONSTRAINTS, (table,))
    for name, definition in await found.fetchall():
        statement = SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            Identifier(version.schema, table), Identifier(name), SQL(definition)
        )
        await connection.execute(statement)


async def add_indexes(connection: Connection, version: Version, table: str) -> None:
    """Give a built table the live one's indexes and options, and the planner its figures."""
    ours = Identifier(version.schema, table)
    found = await connection.execute(INDEXES, (table,))
    for _, definition in await found.fetchall():
        live, there = f" ON public.{table} ", SQL(" ON {} ").format(ours).as_string(connection)
        if definition.count(live) != 1:
            raise HsiError(f"the index {definition!r} cannot be made again in a new version")
        await connection.execute(SQL(definition.replace(live, there)))
    options = await (await connection.execute(OPTIONS, (table,))).fetchone()
    await connection.execute(SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(ours))
    for option in (options and options[0]) or []:
        await connection.execute(SQL("ALTER TABLE {} SET ({})").format(ours, SQL(option)))
    await connection.execute(SQL("ANALYZE {}").format(ours))


async def has_tables(connection: Connection, schema: str, model: ReadModel) -> bool:
    """Tell whether all tables of a read model are in a schema, also those that came lately."""
    values = {"schema": schema, "tables": list(model.tables)}
    (all_there,) = await one_row(connection, HAS_TABLES, values)
    return bool(all_there)


async def same_shape(connection: Connection, schema: str, model: ReadModel) -> bool:
    """Tell whether the tables in a schema have the live ones' columns."""
    for table in model.tables:
        ours = await (await connection.execute(COLUMNS_OF, (schema, table))).fetchall()
        live = await (await connection.execute(COLUMNS_OF, ("public", table))).fetchall()
        if ours != live:
            return False
    return True


async def set_state(connection: Connection, version: Version, new: State) -> None:
    """Move a version to another state; raises VersionConflictError when it is not where it was."""
    moved = await connection.execute(
        SET_STATE,
        {
            "projection": version.projection,
            "version": version.version,
            "old": version.state,
            "new": new,
        },
    )
    if moved.rowcount != 1:
        raise VersionConflictError(
            f"version {version.version} of {version.projection} is no longer {version.state}: "
            "another process has switched meanwhile; look at `hsi projections status`"
        )


async def drop(connection: Connection, version: Version) -> None:
    """Drop a version that is not live."""
    await connection.execute(
        SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(version.schema))
    )
    await connection.execute(FORGET, (version.projection, version.version))
