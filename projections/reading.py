"""What every query does: borrow a connection, run one statement, give typed rows."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import kwargs_row

from domain.errors import ServiceUnavailableError, TransientError
from projections.database import DATABASE, Connection, Pool
from projections.prepared import Prepared
from projections.scope import rows_seen

T = TypeVar("T")
Parameters = Mapping[str, object]
Statement = sql.SQL | sql.Composed | bytes


class Reader:
    """Runs statements; each query class adds those of its topic."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """Lend a connection; raises ServiceUnavailableError when PostgreSQL does not answer.

        So it does when the tables are not there yet.
        """
        with self._away_told():
            async with self._pool.connection() as connection:
                yield connection

    @contextmanager
    def _away_told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            seconds = self._pool.statement_seconds or 0.0
            raise TransientError(
                f"the question took more than {seconds:g} s and was given up: ask for less, such "
                "as fewer days or one camera"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            message = f"PostgreSQL does not answer: {self._pool.reason(error)}"
            raise ServiceUnavailableError(DATABASE, message) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            # A database that is being set up, or one of an older version: it comes with time.
            said = error.diag.message_primary
            message = f"the database lacks what this version needs ({said}): run `hsi migrate`"
            raise ServiceUnavailableError(DATABASE, message) from error

    async def _all(
        self, kind: Callable[..., T], statement: Statement, parameters: Parameters | None = None
    ) -> list[T]:
        """Return every row that the caller may see, made by `kind` from its columns by name."""
        async with self._alone() as connection:
            cursor = connection.cursor(row_factory=kwargs_row(kind))
            await cursor.execute(statement, storable(parameters))
            return rows_seen(await cursor.fetchall())

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        """Lend a connection for one statement: nothing is sent to begin and end a transaction."""
        async with self._connected() as connection:
            await connection.set_autocommit(True)
            try:
                yield connection
            finally:
                if not connection.closed:
                    await connection.set_autocommit(False)

    async def _text(self, statement: Statement, parameters: Parameters) -> str | None:
        """Return the text that a statement answers, None where it answers no row.

        It is planned for these very values. What the text is made of is not cut to the cameras
        that the caller may see.
        """
        async with self._alone() as connection:
            cursor = await connection.execute(statement, storable(parameters), prepare=False)
            row = await cursor.fetchone()
        return None if row is None else row[0]

    async def _prepared(self, statement: Prepared, value: str) -> bytes | None:
        """Return the text that a statement answers that is asked very often, as above."""
        with self._away_told():
            connection = await self._pool.getconn()
            try:
                return await statement.text(connection, _plain(value))
            finally:
                await self._pool.putconn(connection)

    async def _first(
        self, kind: Callable[..., T], statement: Statement, parameters: Parameters | None = None
    ) -> T | None:
        """Return the first row of a statement, if it has one."""
        rows = await self._all(kind, statement, parameters)
        return rows[0] if rows else None


def storable(parameters: Parameters | None) -> Parameters:
    """Return the parameters with texts that PostgreSQL can hold (no NUL)."""
    return {
        name: _plain(value) if isinstance(value, str) else value
        for name, value in (parameters or {}).items()
    }


def _plain(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
