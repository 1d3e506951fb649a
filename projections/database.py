"""How this product reaches PostgreSQL: one URL form in, one pool out."""

import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from socket import SO_SNDBUF, SOL_SOCKET, socket
from typing import Any, Final, LiteralString, Self
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, OperationalError, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from domain.errors import PermanentError

Connection = AsyncConnection[TupleRow]

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

SEND_BYTES: Final = 4 * 1024 * 1024
"""Of runs of rows the system keeps so much for PostgreSQL, where it allows that: PostgreSQL goes
on while the next run is made ready, instead of waiting with 200 kB read (measured: client and
server then took turns)."""

ALIVE_SECONDS = 0.5
"""How long a connection that answered is lent without asking again whether it is alive."""

_SCHEMES = ("postgresql", "postgres")


class Pool(AsyncConnectionPool[Connection]):
    """Connections to one PostgreSQL; knows why the last attempt to make one failed."""

    refusal: str = ""

    statement_seconds: float | None = None
    """How long one statement may take; None: as long as it takes."""

    def reason(self, error: Exception) -> str:
        """Return what an error says, with the refusal behind it where nobody was connected."""
        waited = isinstance(error, PoolTimeout) and self.refusal
        return f"{error}: {self.refusal}" if waited else str(error).strip()


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


def check_authority(database_url: str) -> None:
    """Raise PermanentError when the file of DATABASE_CA_PATH cannot be used."""
    path = _authority(database_url)
    try:
        ssl.create_default_context(cafile=path) if path else None
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(
            f"DATABASE_CA_PATH={path} cannot be read: write the path of a PEM file with the "
            f"authority that signed PostgreSQL's certificate ({error})"
        ) from error


def advised(message: str, database_url: str) -> str:
    """Add what to do to what libpq says of a server that is not trusted; on one line."""
    message = " ".join(message.split())
    if not _authority(database_url) or not ("SSL" in message or "certificate" in message):
        return message
    return (
        f"{message}; PostgreSQL must speak TLS, with a certificate that names the host in "
        "DATABASE_URL and is signed by an authority in DATABASE_CA_PATH"
    )


def _authority(database_url: str) -> str | None:
    return dict(parse_qsl(urlsplit(database_url).query)).get("sslrootcert")


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
    statement_seconds: float | None = None,
) -> Pool:
    """Return an open pool; connections are made when needed, so the server may still be away.

    `rebuildable` says that everything written through it can be written again: commits then do
    not wait for the disk (rows and checkpoints are lost together, or not at all). Who asks for a
    connection waits at most `wait_seconds` for one, and a statement that takes longer than
    `statement_seconds` is given up.
    """
    url = libpq_url(database_url)
    check_authority(url)
    options = "-c timezone=UTC" + (_BACKGROUND if rebuildable else "")
    if statement_seconds is not None:
        options += f" -c statement_timeout={int(statement_seconds * 1000)}"

    def tell(refusal: str) -> None:
        pool.refusal = advised(refusal, url)

    pool = Pool(
        url,
        connection_class=_telling(tell),
        kwargs={"options": options, "application_name": f"hsi-{name}"},
        min_size=0,
        max_size=max_size,
        name=name,
        timeout=wait_seconds,
        reconnect_timeout=CONNECT_SECONDS,
        check=_alive_lately(),
        configure=_send_far_ahead if rebuildable else None,
        open=False,
    )
    pool.statement_seconds = statement_seconds
    await pool.open()
    return pool


async def _send_far_ahead(connection: Connection) -> None:
    with socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BYTES)


def _telling(tell: Callable[[str], None]) -> type[Connection]:
    """Return a kind of connection that tells why it could not be made; "" once it could.

    The pool itself only writes that to the log, and tells its callers that they waited in vain.
    """

    class Telling(AsyncConnection[TupleRow]):
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Self:  # noqa: ANN401 - the driver's own
            try:
                made = await super().connect(conninfo, **options)
            except OperationalError as error:
                tell(str(error))
                raise
            tell("")
            return made

    return Telling


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
