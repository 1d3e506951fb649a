"""How this product reaches PostgreSQL: one URL form in, one pool out."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, LiteralString
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from domain.errors import PermanentError

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

DATABASE = "database"
"""The service name under which health and errors speak of PostgreSQL."""

CONNECT_SECONDS = 5.0
"""How long a caller waits for a connection before PostgreSQL counts as away."""

_BACKGROUND: Final = (
    " -c synchronous_commit=off"
    " -c max_parallel_maintenance_workers=0 -c max_parallel_workers_per_gather=0"
)
"""Of those who only make what can be made again: they wait for no disk, and take one core at most
from those who read meanwhile."""

ALIVE_SECONDS = 0.5
"""How long a connection that answered is lent without asking again whether it is alive."""

_SCHEMES = ("postgresql", "postgres")


class BadDatabaseUrlError(PermanentError):
    """DATABASE_URL names something that is not PostgreSQL."""


def libpq_url(database_url: str) -> str:
    """Return the URL as libpq takes it; a driver suffix such as `+asyncpg` is dropped."""
    scheme, separator, rest = database_url.partition("://")
    base, _, _driver = scheme.partition("+")
    if not separator or base not in _SCHEMES:
        message = (
            f"DATABASE_URL begins with {scheme[:20]!r}; it must be "
            "postgresql://user:password@host/database (postgresql+asyncpg:// works too)"
        )
        raise BadDatabaseUrlError(message)
    return f"postgresql://{rest}"


def shown_url(database_url: str) -> str:
    """Return the URL for messages: without user, password and query."""
    parts = urlsplit(libpq_url(database_url))
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def one_row(
    connection: Connection,
    statement: sql.SQL | sql.Composed | LiteralString,
    parameters: Mapping[str, object] | None = None,
) -> TupleRow:
    """Run a statement that always answers a row, and return the first."""
    row = await (await connection.execute(statement, parameters)).fetchone()
    if row is None:
        raise LookupError(f"no row from {statement!r}")
    return row


async def open_pool(
    database_url: str,
    *,
    name: str,
    max_size: int = 4,
    rebuildable: bool = False,
    wait_seconds: float = CONNECT_SECONDS,
) -> Pool:
    """Return an open pool; connections are made when needed, so the server may still be away.

    `rebuildable` says that everything written through it can be written again: commits then do
    not wait for the disk (rows and checkpoints are lost together, or not at all). Who asks for a
    connection waits at most `wait_seconds` for one.
    """
    options = "-c timezone=UTC" + (_BACKGROUND if rebuildable else "")
    pool: Pool = AsyncConnectionPool(
        libpq_url(database_url),
        connection_class=AsyncConnection[TupleRow],
        kwargs={"options": options, "application_name": f"hsi-{name}"},
        min_size=0,
        max_size=max_size,
        name=name,
        timeout=wait_seconds,
        reconnect_timeout=CONNECT_SECONDS,
        check=_alive_lately(),
        open=False,
    )
    await pool.open()
    return pool


def _alive_lately() -> Callable[[Connection], Awaitable[None]]:
    """Return a check of connections that are about to be lent.

    A round trip before each statement would cost as much as the statement: a busy connection is
    asked now and then, one that lay there longer always. Who is lent one that broke since gets an
    OperationalError, as where it breaks a moment later.
    """
    asked: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def check(connection: Connection) -> None:
        now = time.monotonic()
        if now - asked.get(connection, -ALIVE_SECONDS) >= ALIVE_SECONDS:
            await AsyncConnectionPool.check_connection(connection)
            asked[connection] = now

    return check
