"""Routes of scene changes: what a camera's view went through, and "I have seen it"."""

from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from api.access import actor_of
from api.commands import record, recorded_answer
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.scene_messages import scene_change_links
from api.schemas import Recorded
from api.services import SERVICES, answer
from domain.events import SceneChangeAcknowledged
from domain.ids import follow_up_id
from projections.scene_change_queries import SceneChangeRow

PROJECTION = "cameras"

routes = Routes("cameras")


class SceneChangesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/cameras/{id}/scene-changes."""

    acknowledged: bool | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20


class SceneChangeAnswer(SceneChangeRow, frozen=True, kw_only=True):
    """A change of a camera's view."""

    links: dict[str, str]


class SceneChangesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A camera's changes, the newest first."""

    scene_changes: list[SceneChangeAnswer]
    count: int


class SceneChangeDone(msgspec.Struct, frozen=True, kw_only=True):
    """A change is acknowledged."""

    id: str
    acknowledged: bool
    acknowledged_at: datetime
    acknowledged_by: str
    """Who was first, where several have."""


@routes.get("/api/cameras/{id}/scene-changes", SceneChangesAnswer, problems=["camera_not_found"])
async def list_scene_changes(request: web.Request, query: SceneChangesQuery) -> web.Response:
    """Answer when a camera no longer looked at what it had looked at."""
    camera_id = await _camera(request)
    rows = await request.app[SERVICES].queries.scene_changes(
        camera_id, acknowledged=query.acknowledged, limit=query.limit
    )
    found = [SceneChangeAnswer(**asdict(row), links=_links(row)) for row in rows]
    return answer(SceneChangesAnswer(scene_changes=found, count=len(found)))


@routes.post(
    "/api/cameras/{id}/scene-changes/{change_id}/acknowledge",
    {200: SceneChangeDone, 202: Recorded},
    problems=["camera_not_found", "scene_change_not_found"],
)
async def acknowledge_scene_change(request: web.Request) -> web.Response:
    """Acknowledge a change; one that lasts becomes what the camera is compared with.

    Asking again changes nothing and answers the same. A change whose view was back already is
    only marked as seen.
    """
    camera_id = await _camera(request)
    change_id = path_id(request, "scene_change_not_found", "change_id")
    queries = request.app[SERVICES].queries
    row = await queries.scene_change(camera_id, change_id)
    if row is None:
        raise ProblemError(
            "scene_change_not_found", f"camera {camera_id} has no scene change {change_id!r}"
        )
    if row.acknowledged_at is None:
        event = SceneChangeAcknowledged(
            camera_id=camera_id, change_id=change_id, actor=actor_of(request)
        )
        # One change has one acknowledgement: whoever asks at the same time gets that one.
        once = follow_up_id(change_id, event.TAG)
        if not await record(request, event, PROJECTION, event_id=once):
            return recorded_answer(f"/api/cameras/{camera_id}/scene-changes")
        row = await queries.scene_change(camera_id, change_id)
    if row is None or row.acknowledged_at is None:
        return recorded_answer(f"/api/cameras/{camera_id}/scene-changes")
    done = SceneChangeDone(
        id=row.id,
        acknowledged=True,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by or "anonymous",
    )
    return answer(done)


async def _camera(request: web.Request) -> str:
    """Return the id of the camera that the path names; one that was removed has changes too."""
    wanted = path_id(request, "camera_not_found")
    row = await request.app[SERVICES].queries.camera(wanted)
    if row is None:
        raise ProblemError("camera_not_found", f"there is no camera {wanted!r}")
    return row.id


def _links(row: SceneChangeRow) -> dict[str, str]:
    return scene_change_links(row.camera_id, row.id, row.picture_id, row.baseline_picture_id)
