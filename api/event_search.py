"""Routes that look at many events at once: count them, search their words, take them away."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.structs import asdict

from api.answers import event_answer
from api.compression import takes_gzip
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import EventAnswer, Id, PageCursor, Score
from api.services import SERVICES, ApiServices, answer
from domain.errors import TransientError
from domain.events import Level
from projections.cursor import BadCursorError
from projections.rows import EventFilter, EventRow
from projections.search_queries import CANDIDATES, FoundRow

EXPORT_RUN: Final = 500
"""Events read at once while an export is sent."""

_COLUMNS: Final = (
    *("id", "camera_id", "started_at", "ended_at", "risk_score", "risk_level", "engine"),
    *("summary", "reasoning", "labels", "is_fast_path", "reviewed", "notes", "held", "late"),
    *("alert", "alert_reason"),
)

routes = Routes("events")


class EventsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are counted."""

    camera_id: Id | None = None
    risk_level: Level | None = None
    min_score: Score | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    reviewed: bool | None = None
    object_type: Id | None = None
    is_fast_path: bool | None = None


class SearchQuery(EventsFilter, frozen=True, kw_only=True):
    """GET /api/events/search."""

    q: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            description='Words that must all be there; "a phrase" in quotes, or (either), '
            "-word (must not be there).",
        ),
    ]
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: PageCursor | None = None


class ExportQuery(EventsFilter, frozen=True, kw_only=True):
    """GET /api/events/export."""

    format: Literal["csv", "jsonl"] = "csv"


class EventStats(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events/stats."""

    total_events: int
    by_risk_level: dict[Level, int]
    by_camera: dict[str, int]
    reviewed: int
    fast_path: int


class FoundEvent(EventAnswer, frozen=True, kw_only=True):
    """An event that matches a search."""

    relevance_score: float
    """From 0 to 1; comparable within one search only."""


class SearchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events/search, the best match first."""

    results: list[FoundEvent]
    count: int
    total_count: int
    """Events that match."""
    total_is_more: bool
    """There are more than that: only the newest ones were ranked."""
    limit: int
    next_cursor: str | None


@routes.get("/api/events/stats", EventStats)
async def event_stats(request: web.Request, query: EventsFilter) -> web.Response:
    """Answer how many events there are, by level and camera."""
    levels: Counter[Level] = Counter()
    cameras: Counter[str] = Counter()
    reviewed = fast = 0
    for row in await request.app[SERVICES].queries.event_counts(filter_of(query)):
        levels[row.risk_level] += row.events
        cameras[row.camera_id] += row.events
        reviewed += row.events if row.reviewed else 0
        fast += row.events if row.is_fast_path else 0
    return answer(
        EventStats(
            total_events=levels.total(),
            by_risk_level=dict(levels),
            by_camera=dict(sorted(cameras.items())),
            reviewed=reviewed,
            fast_path=fast,
        )
    )


@routes.get("/api/events/search", SearchAnswer, problems=["invalid_cursor"])
async def search_events(request: web.Request, query: SearchQuery) -> web.Response:
    """Answer the events in which words stand, the best match first.

    Of a frequent word the newest matches are ranked (`total_is_more`); narrow the search with
    the filters to see older ones.
    """
    services = request.app[SERVICES]
    try:
        page = await services.queries.search(
            query.q, filter_of(query), limit=query.limit, after=query.cursor
        )
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    return answer(
        SearchAnswer(
            results=[_found(services, row) for row in page.items],
            count=len(page.items),
            total_count=page.matches,
            total_is_more=page.matches == CANDIDATES,
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


@routes.get("/api/events/export", "text/csv, application/x-ndjson")
async def export_events(request: web.Request, query: ExportQuery) -> web.StreamResponse:
    """Send every event that fits as CSV, or as JSON lines (format=jsonl), the newest first."""
    services = request.app[SERVICES]
    which = filter_of(query)
    page = await services.queries.events(which, limit=EXPORT_RUN)
    response = web.StreamResponse(
        headers={
            "Content-Disposition": f'attachment; filename="events.{query.format}"',
            "Cache-Control": "no-store",
        }
    )
    response.content_type = "text/csv" if query.format == "csv" else "application/x-ndjson"
    response.charset = "utf-8"
    if takes_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    await response.prepare(request)
    lines = _csv_lines if query.format == "csv" else _json_lines
    if query.format == "csv":
        await response.write((",".join(_COLUMNS) + "\r\n").encode())
    try:
        while page.items:
            await response.write(lines([_event(services, row) for row in page.items]))
            if page.next_cursor is None:
                break
            page = await services.queries.events(which, limit=EXPORT_RUN, after=page.next_cursor)
    except TransientError:
        # A client must see that the file is not whole: the connection breaks off.
        if request.transport is not None:
            request.transport.abort()
        raise
    await response.write_eof()
    return response


def filter_of(query: EventsFilter) -> EventFilter:
    """Return what to ask the read model for."""
    return EventFilter(
        camera_id=query.camera_id,
        risk_level=query.risk_level,
        min_score=query.min_score,
        start=query.start_date,
        end=query.end_date,
        reviewed=query.reviewed,
        object_type=query.object_type,
        is_fast_path=query.is_fast_path,
    )


def _event(services: ApiServices, row: EventRow) -> EventAnswer:
    return event_answer(row, services.config.late_after_seconds)


def _found(services: ApiServices, row: FoundRow) -> FoundEvent:
    return FoundEvent(
        **asdict(_event(services, row.event)), relevance_score=row.relevance / 1_000_000
    )


def _json_lines(events: Iterable[EventAnswer]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def _csv_lines(events: Iterable[EventAnswer]) -> bytes:
    made = io.StringIO()
    writer = csv.writer(made)
    for event in events:
        writer.writerow([_cell(getattr(event, name)) for name in _COLUMNS])
    return made.getvalue().encode()


def _cell(value: object) -> str:
    """Return a cell's text; one that a spreadsheet would run as a formula gets a quote before."""
    match value:
        case datetime():
            return value.isoformat()
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            text = " ".join(str(part) for part in value)
        case _:
            text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
