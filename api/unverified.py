"""Route of what was told as unverified: pictures that came while nothing could look at them."""

from datetime import datetime

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from api.problems import ProblemError
from api.routing import Routes
from api.schemas import Id, PageCursor, PageLimit
from api.services import SERVICES, answer
from api.unverified_messages import unverified_links
from projections.cursor import BadCursorError
from projections.unverified_queries import UnverifiedFilter, UnverifiedRow

routes = Routes("unverified")


class UnverifiedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/unverified."""

    camera_id: Id | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class UnverifiedAnswer(UnverifiedRow, frozen=True, kw_only=True):
    """A picture that was told as unverified, and what became of it."""

    links: dict[str, str]


class UnverifiedListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was told as unverified, the newest first."""

    unverified: list[UnverifiedAnswer]
    count: int
    limit: int
    next_cursor: str | None


@routes.get("/api/unverified", UnverifiedListAnswer, problems=["invalid_cursor"])
async def list_unverified(request: web.Request, query: UnverifiedQuery) -> web.Response:
    """Answer the pictures that were told of before anybody had looked, and where they stand."""
    which = UnverifiedFilter(camera_id=query.camera_id, start=query.start_date, end=query.end_date)
    queries = request.app[SERVICES].queries
    try:
        page = await queries.unverified(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    found = [_answer(row) for row in page.items]
    return answer(
        UnverifiedListAnswer(
            unverified=found, count=len(found), limit=query.limit, next_cursor=page.next_cursor
        )
    )


def _answer(row: UnverifiedRow) -> UnverifiedAnswer:
    links = unverified_links(row.camera_id, row.picture_id, row.file_id)
    if row.event_id is not None:
        links["event"] = f"/api/events/{row.event_id}"
    return UnverifiedAnswer(**asdict(row), links=links)
