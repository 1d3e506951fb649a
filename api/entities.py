"""Routes of entities: who and what was seen again, by looks, across cameras."""

from aiohttp import web
from msgspec.structs import asdict

from api.enrichment_schemas import (
    EntitiesAnswer,
    EntitiesQuery,
    EntityAnswer,
    HistoryAnswer,
    HistoryQuery,
)
from api.enrichments import sighting_answer
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from projections.cursor import BadCursorError
from projections.enrichment_queries import EntityFilter, EntityRow, HistoryFilter

routes = Routes("entities")


@routes.get("/api/entities", EntitiesAnswer, problems=["invalid_cursor"])
async def list_entities(request: web.Request, query: EntitiesQuery) -> web.Response:
    """Answer entities, the one seen last first."""
    which = EntityFilter(
        kind=query.kind,
        camera_id=query.camera_id,
        start=query.start_date,
        end=query.end_date,
        min_cameras=query.min_cameras,
        min_sightings=query.min_sightings,
    )
    queries = request.app[SERVICES].queries
    try:
        page = await queries.entities(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    found = [_entity_answer(row) for row in page.items]
    return answer(
        EntitiesAnswer(
            entities=found, count=len(found), limit=query.limit, next_cursor=page.next_cursor
        )
    )


@routes.get("/api/entities/{id}", EntityAnswer, problems=["entity_not_found"])
async def get_entity(request: web.Request) -> web.Response:
    """Answer one entity, by its id or by that of any of its sightings."""
    return answer(_entity_answer(await _entity(request)))


@routes.get(
    "/api/entities/{id}/history",
    HistoryAnswer,
    problems=["entity_not_found", "invalid_cursor"],
)
async def entity_history(request: web.Request, query: HistoryQuery) -> web.Response:
    """Answer where and when an entity was seen, the newest sighting first."""
    entity = await _entity(request)
    which = HistoryFilter(camera_id=query.camera_id, start=query.start_date, end=query.end_date)
    queries = request.app[SERVICES].queries
    try:
        page = await queries.entity_history(
            entity.id, which, limit=query.limit, after=query.cursor
        )
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    return answer(
        HistoryAnswer(
            entity_id=entity.id,
            sightings=[sighting_answer(row) for row in page.items],
            count=len(page.items),
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


async def _entity(request: web.Request) -> EntityRow:
    wanted = path_id(request, "entity_not_found")
    row = await request.app[SERVICES].queries.entity(wanted)
    if row is None:
        raise ProblemError("entity_not_found", f"there is no entity {wanted!r}")
    return row


def _entity_answer(row: EntityRow) -> EntityAnswer:
    url = f"/api/entities/{row.id}"
    links = {
        "self": url,
        "history": f"{url}/history",
        "image": f"/api/detections/{row.best_detection_id}/image",
    }
    return EntityAnswer(**asdict(row), links=links)
