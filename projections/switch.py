"""The switch: a version's tables and the live ones change places in one transaction.

Readers and the live projector notice nothing but a wait of milliseconds: they speak of tables by
name, and PostgreSQL looks a name up again after it has waited for a lock. The live projector's
checkpoint changes with the tables, so its compare-and-swap tells it to read again from there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from psycopg import errors as pg
from psycopg.sql import SQL, Identifier

from domain.errors import HsiError
from projections.database import Connection
from projections.read_model import ReadModel
from projections.versions import CHECKS, Version, drop, make_checks, set_state

FIRST_LOCK_MS: Final = 50
LONGEST_LOCK_MS: Final = 800
"""Below PostgreSQL's deadlock_timeout (1 s): in a deadlock it is the switch that gives way."""

TRIES: Final = 60

HOLD_CHECKPOINT: Final = "SELECT FROM public.checkpoints WHERE projection = %s FOR UPDATE"

VIEWS: Final = """
SELECT DISTINCT v.relname, pg_get_viewdef(v.oid)
FROM pg_depend d
JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_class t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
WHERE v.relnamespace = 'public'::regnamespace AND t.relnamespace = 'public'::regnamespace
  AND t.relname = ANY (%s) AND t.relkind = 'r'
ORDER BY 1
"""

SWITCHED: Final = """
UPDATE projection_versions SET switched_at = now() WHERE projection = %s AND version = %s
"""


class SwitchBusyError(HsiError):
    """The tables were in use the whole time."""


async def hold_live(connection: Connection, model: ReadModel) -> None:
    """Keep every projector of the read model from writing until the transaction's end."""
    await connection.execute(HOLD_CHECKPOINT, (model.name,))


async def switch(
    connection: Connection,
    model: ReadModel,
    new: Version,
    live: Version,
    *,
    drop_first: Version | None,
    catch_up: Callable[[Connection], Awaitable[None]],
) -> None:
    """Make `new` live and keep `live`, dropping the version that was kept before.

    In one transaction: (1) hold the live projector off, (2) `catch_up`, which brings the new
    tables to the live position, (3) lock views and tables for a moment, (4) exchange the tables
    and checkpoints. What is in use is tried again; nobody waits long for us.
    """
    lock_ms = FIRST_LOCK_MS
    for _ in range(TRIES):
        try:
            async with connection.transaction():
                await hold_live(connection, model)
                await catch_up(connection)
                await connection.execute(SQL("SET LOCAL lock_timeout = {}").format(lock_ms))
                await _exchange(connection, model, new, live, drop_first)
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            await asyncio.sleep(lock_ms / 1000)
            lock_ms = min(lock_ms * 2, LONGEST_LOCK_MS)
        else:
            return
    raise SwitchBusyError(
        f"the tables of {model.name} were in use during {TRIES} tries to switch: look in "
        "pg_stat_activity for a transaction that never ends, then run the command again"
    )


async def _exchange(
    connection: Connection,
    model: ReadModel,
    new: Version,
    live: Version,
    drop_first: Version | None,
) -> None:
    await connection.execute("SET LOCAL search_path TO public")
    views = await (await connection.execute(VIEWS, (list(model.tables),))).fetchall()
    for name in (*[view for view, _ in views], *model.tables):
        await connection.execute(
            SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier("public", name))
        )
    if drop_first is not None:
        await drop(connection, drop_first)
    await connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(live.schema)))
    await make_checks(connection, live.schema)
    for table in model.tables:
        await _move(connection, table, "public", live.schema)
        await _move(connection, table, new.schema, "public")
    for name, definition in views:
        statement = SQL("CREATE OR REPLACE VIEW {} AS ").format(Identifier("public", name))
        await connection.execute(statement + SQL(definition.replace("{", "{{").replace("}", "}}")))
    for table in CHECKS:
        await _hand_over(connection, model, table, "public", live.schema)
        await _hand_over(connection, model, table, new.schema, "public")
    await set_state(connection, live, "kept")
    await set_state(connection, new, "live")
    await connection.execute(SWITCHED, (model.name, new.version))
    await connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(new.schema)))


async def _move(connection: Connection, table: str, source: str, target: str) -> None:
    await connection.execute(
        SQL("ALTER TABLE {} SET SCHEMA {}").format(Identifier(source, table), Identifier(target))
    )


async def _hand_over(
    connection: Connection, model: ReadModel, table: str, source: str, target: str
) -> None:
    statement = SQL(
        "WITH moved AS (DELETE FROM {} WHERE projection = {} RETURNING *) "
        "INSERT INTO {} SELECT * FROM moved"
    ).format(Identifier(source, table), model.name, Identifier(target, table))
    await connection.execute(statement)
