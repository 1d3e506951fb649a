"""Routes of the log records: lists, one, counts; and what goes wrong in a browser."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from projections.cursor import BadCursorError
from projections.log_table import LogFilter, LogRow

routes = Routes("logs")
browser = logging.getLogger("browser")

LevelName = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
_DIGITS: Final = 18
_NUMBERS: Final = logging.getLevelNamesMapping()
_Cursor = Annotated[
    str,
    Meta(max_length=500, extra_json_schema={"pattern": r"^(-?\d{1,16}|\d{17})~\d{1,18}$"}),
]
"""A page cursor whose id is a number."""


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/logs; `level` is the least one, `search` a part of message or logger."""

    level: LevelName | None = None
    component: _Name | None = None
    correlation_id: _Id | None = None
    trace_id: _Id | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    search: _Name | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: _Cursor | None = None


class LogAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One log record."""

    id: str
    timestamp: datetime
    level: str
    component: str
    host: str
    pid: int
    logger: str
    message: str
    correlation_id: str
    trace_id: str
    exception: str
    extra: dict[str, Any]


class LogsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of log records, the newest first."""

    logs: list[LogAnswer]
    count: int
    limit: int
    next_cursor: str | None


class LogStatsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/logs/stats."""

    hours: Annotated[int, Meta(ge=1, le=8760)] = 24


class LogStatsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many records there are since a moment."""

    since: datetime
    total: int
    levels: dict[str, int]
    components: dict[str, dict[str, int]]
    """Component → level → records."""


class BrowserLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/logs/frontend: what a page has to say."""

    level: LevelName
    message: Annotated[str, Meta(min_length=1, max_length=2000)]
    url: Annotated[str, Meta(max_length=2000)] = ""
    stack: Annotated[str, Meta(max_length=8000)] = ""


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """The record is written."""

    status: Literal["recorded"] = "recorded"


@routes.get("/api/logs", LogsAnswer, role="admin", problems=["invalid_cursor"])
async def list_logs(request: web.Request, query: LogsQuery) -> web.Response:
    """Answer log records, the newest first."""
    which = LogFilter(
        level=None if query.level is None else _NUMBERS[query.level],
        component=query.component,
        correlation_id=query.correlation_id,
        trace_id=query.trace_id,
        start=query.start_date,
        end=query.end_date,
        search=query.search,
    )
    try:
        page = await request.app[SERVICES].queries.logs(
            which, limit=query.limit, after=query.cursor
        )
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    found = [log_answer(row) for row in page.items]
    return answer(
        LogsAnswer(logs=found, count=len(found), limit=query.limit, next_cursor=page.next_cursor)
    )


@routes.get("/api/logs/stats", LogStatsAnswer, role="admin")
async def log_stats(request: web.Request, query: LogStatsQuery) -> web.Response:
    """Answer how many records of each level every component wrote lately."""
    since = datetime.now(UTC) - timedelta(hours=query.hours)
    levels: dict[str, int] = {}
    components: dict[str, dict[str, int]] = {}
    for row in await request.app[SERVICES].queries.log_counts(since):
        level = logging.getLevelName(row.level)
        levels[level] = levels.get(level, 0) + row.records
        components.setdefault(row.component, {})[level] = row.records
    return answer(
        LogStatsAnswer(
            since=since, total=sum(levels.values()), levels=levels, components=components
        )
    )


@routes.get(
    "/api/logs/{id:(?!frontend$)[^/]+}", LogAnswer, role="admin", problems=["log_not_found"]
)
async def get_log(request: web.Request) -> web.Response:
    """Answer one log record."""
    wanted = request.match_info["id"]
    known = wanted.isascii() and wanted.isdecimal() and len(wanted) <= _DIGITS
    row = await request.app[SERVICES].queries.log(int(wanted)) if known else None
    if row is None:
        raise ProblemError("log_not_found", f"there is no log record {wanted[:80]!r}")
    return answer(log_answer(row))


@routes.post("/api/logs/frontend", Noted, role="viewer")
async def log_of_browser(request: web.Request, body: BrowserLog) -> web.Response:
    """Write down what went wrong in a browser, with its place."""
    browser.log(
        _NUMBERS[body.level],
        "%s",
        " ".join(body.message.split()),
        extra={"action": "browser", "url": body.url, "stack": body.stack},
    )
    return answer(Noted())


def log_answer(row: LogRow) -> LogAnswer:
    """Return a record as clients see it."""
    return LogAnswer(
        id=str(row.id),
        timestamp=row.at,
        level=logging.getLevelName(row.level),
        component=row.component,
        host=row.host,
        pid=row.pid,
        logger=row.logger,
        message=row.message,
        correlation_id=row.correlation_id,
        trace_id=row.trace_id,
        exception=row.exception,
        extra=msgspec.json.decode(row.extra, type=dict[str, Any]),
    )
