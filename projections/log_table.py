"""The table of log records: written in runs by a thread of each process, read by /api/logs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg.sql import SQL

from domain.errors import PermanentError, ServiceUnavailableError
from projections.cursor import BadCursorError, Cursor
from projections.database import CONNECT_SECONDS, DATABASE, libpq_url
from projections.paging import page_conditions, page_of, page_values
from projections.reading import Reader
from projections.rows import Page
from runtime.log_shipping import LogLine

_INSERT: Final[LiteralString] = """
INSERT INTO logs (at, level, component, host, pid, logger, message, correlation_id, trace_id,
                  exception, extra)
SELECT * FROM json_to_recordset(%s::json) AS r (
    at timestamptz, level smallint, component text, host text, pid integer, logger text,
    message text, correlation_id text, trace_id text, exception text, extra jsonb)
"""

_COLUMNS: Final = """id, at, level, component, host, pid, logger, message, correlation_id,
    trace_id, exception, extra::text AS extra"""

_CONDITIONS: Final = {
    "level": SQL("level >= %(level)s"),
    "component": SQL("component = %(component)s"),
    "correlation_id": SQL("correlation_id = %(correlation_id)s"),
    "trace_id": SQL("trace_id = %(trace_id)s"),
    "start": SQL("at >= %(start)s"),
    "end": SQL("at < %(end)s"),
    "search": SQL("(message ILIKE %(search)s OR logger ILIKE %(search)s)"),
    "after_id": SQL("(at, id) < (%(after_at)s, %(after_id)s::bigint)"),
}

_PAGE: Final = SQL(
    f"SELECT {_COLUMNS} FROM logs WHERE {{conditions}} ORDER BY at DESC, id DESC LIMIT %(limit)s"  # noqa: S608 - columns of ours
)
_ONE: Final = SQL(f"SELECT {_COLUMNS} FROM logs WHERE id = %(id)s")  # noqa: S608 - columns of ours
_COUNTS: Final = SQL(
    """SELECT component, level, count(*) AS records FROM logs WHERE at >= %(since)s
    GROUP BY component, level ORDER BY component, level"""
)
_OLD: Final = SQL("SELECT count(*) AS records FROM logs WHERE at < %(before)s")
_DELETE: Final = SQL("DELETE FROM logs WHERE at < %(before)s")

_MOST_ID: Final = 2**63 - 1


class LogRow(LogLine, frozen=True, kw_only=True):
    """One record with the number that the table gave it."""

    id: int


class LogCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many records of a level a component wrote."""

    component: str
    level: int
    records: int


class _Old(msgspec.Struct, frozen=True):
    records: int


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records; None does not matter."""

    level: int | None = None
    """The least level."""
    component: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    search: str | None = None
    """Part of the message, or of the logger's name."""


class LogWriter:
    """Writes runs over a connection of its own; for one thread."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._connection: psycopg.Connection | None = None

    def __call__(self, lines: Sequence[LogLine]) -> None:
        """Write a run; raises ServiceUnavailableError when PostgreSQL, or the table, is away."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=int(CONNECT_SECONDS),
                    application_name="hsi-logs",
                    options="-c timezone=UTC -c synchronous_commit=off",
                )
            rows = [{**msgspec.to_builtins(line), "extra": _object(line.extra)} for line in lines]
            self._connection.execute(_INSERT, [msgspec.json.encode(rows).decode()])
        except psycopg.DataError as error:
            raise PermanentError(f"log records cannot be stored: {error}") from error
        except psycopg.Error as error:
            self.close()
            raise ServiceUnavailableError(DATABASE, f"log records wait: {error}") from error

    def close(self) -> None:
        """Close the connection; the next run makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class LogQueries(Reader):
    """Reads log records, the newest first, and deletes old ones."""

    async def logs(self, wanted: LogFilter, *, limit: int, after: str | None) -> Page[LogRow]:
        """Return a page; raises BadCursorError for a cursor that no page gave out."""
        values = page_values(msgspec.structs.asdict(wanted), limit, after)
        last = values.get("after_id")
        if last is not None and not (str(last).isdecimal() and int(str(last)) <= _MOST_ID):
            raise BadCursorError("the cursor is not one that a list of log records gave out")
        if wanted.search is not None:
            values["search"] = f"%{_literal(wanted.search)}%"
        statement = _PAGE.format(conditions=page_conditions(_CONDITIONS, values))
        rows = await self._all(LogRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.at, str(row.id)))

    async def log(self, number: int) -> LogRow | None:
        """Return one record."""
        return await self._first(LogRow, _ONE, {"id": number})

    async def log_counts(self, since: datetime) -> list[LogCount]:
        """Return how many records there are since a moment, by component and level."""
        return await self._all(LogCount, _COUNTS, {"since": since})

    async def old_logs(self, before: datetime) -> int:
        """Return how many records are older."""
        found = await self._first(_Old, _OLD, {"before": before})
        return found.records if found else 0

    async def delete_logs(self, before: datetime) -> int:
        """Delete what is older; return how many records that were."""
        async with self._connected() as connection:
            return (await connection.execute(_DELETE, {"before": before})).rowcount


def _literal(text: str) -> str:
    """Return a text in which LIKE finds nothing special."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _object(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
