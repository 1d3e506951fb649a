"""Routes of lineage and of state as of a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Literal

from aiohttp import web

from api.as_of import AsOfQuery, AsOfReader, CamerasAsOf, RulesAsOf, SettingsAsOf
from api.lineage import LineageReader
from api.lineage_schemas import EventLineage, FileLineage, LineageFound, LineageQuery
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from domain.ids import event_id
from domain.paths import escape_path
from streams.history import History
from streams.lookup import Lookup
from streams.segments import ArchiveError

routes = Routes("lineage")


def _past(services: ApiServices) -> History:
    return History(services.log, services.config.archive_dir)


def _lineages(request: web.Request) -> LineageReader:
    services = request.app[SERVICES]
    lookup = Lookup(services.log, _past(services))
    return LineageReader(services.queries, services.log, lookup)


@routes.get("/api/events/{id}/lineage", EventLineage, problems=["event_not_found"])
async def event_lineage(request: web.Request) -> web.Response:
    """Answer everything that led to an event, back to the files."""
    wanted = path_id(request, "event_not_found")
    lineage = await _lineages(request).event(wanted)
    if lineage is None:
        raise ProblemError("event_not_found", f"there is no event {wanted!r}")
    return answer(lineage)


@routes.get("/api/files/{id}/lineage", FileLineage, problems=["file_not_found"])
async def file_lineage(request: web.Request) -> web.Response:
    """Answer every step of a file's pictures, where it stopped and why."""
    wanted = path_id(request, "file_not_found")
    lineage = await _lineages(request).file(wanted)
    if lineage is None:
        raise ProblemError("file_not_found", f"there is no file {wanted!r}")
    return answer(lineage)


@routes.get(
    "/api/lineage",
    LineageFound,
    problems=["event_not_found", "file_not_found", "picture_not_found"],
)
async def find_lineage(request: web.Request, query: LineageQuery) -> web.Response:
    """Answer what an id or a path names: an event, or a file."""
    wanted = query.of
    services = request.app[SERVICES]
    if wanted.startswith(("evt_", "batch_")):
        return answer(await _found_event(services, wanted))
    if wanted.startswith(("file_", "pic_")):
        return answer(await _found_file(services, wanted))
    return answer(await _found_path(services, wanted))


async def _found_event(services: ApiServices, wanted: str) -> LineageFound:
    named = event_id(wanted) if wanted.startswith("batch_") else wanted
    if await services.queries.event(named) is None:
        hint = " (it is still open, or is none)" if named != wanted else ""
        raise ProblemError("event_not_found", f"there is no event of {wanted[:80]!r}{hint}")
    return _found("event", named)


async def _found_file(services: ApiServices, wanted: str) -> LineageFound:
    file_id = wanted
    if wanted.startswith("pic_"):
        # A detection's id is its picture's with a number behind it.
        picture = await services.queries.picture(wanted.partition(".")[0])
        if picture is None:
            raise ProblemError("picture_not_found", f"there is no picture {wanted[:80]!r}")
        file_id = picture.file_id
    if await services.queries.file(file_id) is None:
        raise ProblemError("file_not_found", f"there is no file {wanted[:80]!r}")
    return _found("file", file_id)


async def _found_path(services: ApiServices, wanted: str) -> LineageFound:
    base = services.config.base_folder
    path = PurePath(wanted)
    if path.is_absolute() and path.is_relative_to(base):
        path = path.relative_to(base)
    # As it is shown, or as it is: a path is stored with what is no text escaped.
    shown = path.as_posix()
    files = await services.queries.files_at(shown)
    if not files and escape_path(shown) != shown:
        files = await services.queries.files_at(escape_path(shown))
    if not files:
        raise ProblemError(
            "file_not_found",
            f"no file {wanted[:200]!r} was ever taken in: give the path below {base}, like "
            "'Front Door/one.jpg', or an id of a file, picture or event; a file that lies there "
            "and is not known has not been looked at yet",
        )
    return _found("file", files[0].file_id, [file.file_id for file in files[1:]])


def _found(
    kind: Literal["event", "file"], named: str, earlier: Sequence[str] = ()
) -> LineageFound:
    links = {"lineage": f"/api/{kind}s/{named}/lineage", "self": f"/api/{kind}s/{named}"}
    return LineageFound(kind=kind, id=named, earlier=list(earlier), links=links)


@routes.get(
    "/api/system/as-of", (CamerasAsOf, SettingsAsOf, RulesAsOf), problems=["history_missing"]
)
async def as_of(request: web.Request, query: AsOfQuery) -> web.Response:
    """Answer what was known, or in force, at a time."""
    if query.at > datetime.now(UTC):
        raise ProblemError(
            "invalid_parameter", f"at={query.at.isoformat()} lies in the future: give a past time"
        )
    services = request.app[SERVICES]
    past = _past(services)
    reader = AsOfReader(services.queries, services.log, Lookup(services.log, past), past)
    try:
        match query.what:
            case "cameras":
                return answer(await reader.cameras(query.at))
            case "settings":
                return answer(await reader.settings(query.at))
            case "rules":
                return answer(await reader.rules(query.at))
    except ArchiveError as error:
        raise ProblemError("history_missing", str(error)) from error
