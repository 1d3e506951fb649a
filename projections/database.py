"""How this product reaches PostgreSQL: one URL form in, one pool out."""

from collections.abc import Mapping
from typing import LiteralString
from urllib.parse import urlsplit

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
    options = "-c timezone=UTC" + (" -c synchronous_commit=off" if rebuildable else "")
    pool: Pool = AsyncConnectionPool(
        libpq_url(database_url),
        connection_class=AsyncConnection[TupleRow],
        kwargs={"options": options, "application_name": f"hsi-{name}"},
        min_size=0,
        max_size=max_size,
        name=name,
        timeout=wait_seconds,
        reconnect_timeout=CONNECT_SECONDS,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    await pool.open()
    return pool
