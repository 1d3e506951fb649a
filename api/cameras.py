"""Routes of cameras: list, add, change, remove, newest picture."""

import asyncio
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from api.answers import camera_answer, camera_status
from api.camera_schemas import (
    CameraAnswer,
    CameraChange,
    CameraCreate,
    CamerasAnswer,
    CamerasQuery,
)
from api.commands import record, recorded_answer, recorded_before
from api.media import picture_response
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import Recorded
from api.services import SERVICES, answer
from domain.events import CameraRegistered, CameraRemoved, CameraUpdated, Event
from domain.ids import camera_id
from projections.rows import CameraRow

PROJECTION = "cameras"
_NAME_BYTES = 255
_CHANGES = "name, status, entry_point, when_unavailable or scene_change_threshold"

routes = Routes("cameras")


@routes.get("/api/cameras", CamerasAnswer)
async def list_cameras(request: web.Request, query: CamerasQuery) -> web.Response:
    """Answer all cameras; removed ones only when asked for."""
    services = request.app[SERVICES]
    rows = await services.queries.cameras(include_removed=query.status == "removed")
    if query.status is not None:
        rows = [row for row in rows if camera_status(row) == query.status]
    folders = [services.config.base_folder / row.folder for row in rows]
    there = await asyncio.to_thread(lambda: [folder.is_dir() for folder in folders])
    cameras = [
        replace(camera_answer(row), folder_exists=exists)
        for row, exists in zip(rows, there, strict=True)
    ]
    return answer(CamerasAnswer(cameras=cameras, count=len(cameras)))


@routes.get("/api/cameras/{id}", CameraAnswer, problems=["camera_not_found"])
async def get_camera(request: web.Request) -> web.Response:
    """Answer one camera."""
    row = await _camera(request)
    folder = request.app[SERVICES].config.base_folder / row.folder
    exists = await asyncio.to_thread(folder.is_dir)
    return answer(replace(camera_answer(row), folder_exists=exists))


@routes.get(
    "/api/cameras/{id}/snapshot",
    {200: "image/*", 206: "image/*", 304: None},
    problems=[
        *("camera_not_found", "no_picture_yet", "picture_gone", "picture_changed"),
        *("picture_redacted", "picture_unreadable", "range_not_satisfiable"),
    ],
)
async def snapshot(request: web.Request) -> web.Response:
    """Answer the camera's newest picture."""
    row = await _camera(request)
    services = request.app[SERVICES]
    picture = await services.queries.newest_picture(row.id)
    if picture is None:
        raise ProblemError("no_picture_yet", f"camera {row.id} has not sent a picture yet")
    # The address stays while the picture changes, so it must be asked for again.
    return await picture_response(
        request,
        picture.picture_id,
        lambda: services.pictures.original(picture),
        modified=picture.received_at,
        cache_control="no-cache",
    )


@routes.post(
    "/api/cameras",
    {201: CameraAnswer, 202: Recorded},
    problems=["camera_exists", "folder_outside"],
)
async def add_camera(request: web.Request, body: CameraCreate) -> web.Response:
    """Register a camera, or confirm one that was found as a folder."""
    services = request.app[SERVICES]
    name = _name(body.name)
    folder = await asyncio.to_thread(folder_below, services.config.base_folder, body.folder_path)
    new_id = camera_id(folder)
    async with services.folder_locks[new_id]:
        event = await _addition(request, new_id, folder, replace(body, name=name))
        shown = event is None or await record(request, event, PROJECTION)
    path = services.config.base_folder / folder
    created, message = await asyncio.to_thread(_make_folder, path)
    location = f"/api/cameras/{new_id}"
    row = await services.queries.camera(new_id) if shown else None
    if row is None:
        return recorded_answer(location)
    made = replace(camera_answer(row), folder_exists=not message, folder_created=created)
    if message:
        made = replace(made, folder_message=message)
    return answer(made, status=HTTPStatus.CREATED, headers={"Location": location})


@routes.patch(
    "/api/cameras/{id}", {200: CameraAnswer, 202: Recorded}, problems=["camera_not_found"]
)
async def change_camera(request: web.Request, body: CameraChange) -> web.Response:
    """Change what is given; doing so also confirms a camera that was found as a folder."""
    row = await _camera(request)
    if body == CameraChange():
        raise ProblemError("invalid_body", "nothing to change: give " + _CHANGES)
    event = CameraUpdated(
        camera_id=row.id,
        name=None if body.name is UNSET else _name(body.name),
        enabled=None if body.status is UNSET else body.status != "disabled",
        entry_point=None if body.entry_point is UNSET else body.entry_point,
        when_unavailable=None if body.when_unavailable is UNSET else body.when_unavailable,
        scene_change_threshold=_own_threshold(body),
        confirmed=None if row.confirmed else True,
    )
    if not await record(request, event, PROJECTION):
        return recorded_answer(f"/api/cameras/{row.id}")
    return answer(camera_answer(await _camera(request)))


@routes.delete("/api/cameras/{id}", {204: None, 202: Recorded}, problems=["camera_not_found"])
async def remove_camera(request: web.Request) -> web.Response:
    """Remove a camera; its pictures and events stay."""
    event = CameraRemoved(camera_id=path_id(request, "camera_not_found"))
    try:
        await _camera(request)
    except ProblemError:
        # The same request once more, after its answer was lost, has nothing left to do.
        if await recorded_before(request, event) is None:
            raise
        return web.Response(status=HTTPStatus.NO_CONTENT)
    if not await record(request, event, PROJECTION):
        return recorded_answer(f"/api/cameras/{event.camera_id}")
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def _camera(request: web.Request) -> CameraRow:
    wanted = path_id(request, "camera_not_found")
    row = await request.app[SERVICES].queries.camera(wanted)
    if row is None or row.removed_at is not None:
        raise ProblemError("camera_not_found", f"there is no camera {wanted!r}")
    return row


async def _addition(
    request: web.Request, new_id: str, folder: str, wanted: CameraCreate
) -> Event | None:
    """Return the event that adds the camera; None when this very request has added it before."""
    enabled = wanted.status != "disabled"
    registered = CameraRegistered(
        camera_id=new_id,
        name=wanted.name,
        folder=folder,
        source="api",
        enabled=enabled,
        entry_point=wanted.entry_point,
        when_unavailable=wanted.when_unavailable,
        scene_change_threshold=wanted.scene_change_threshold,
    )
    row = await request.app[SERVICES].queries.camera(new_id)
    if row is None or row.removed_at is not None:
        return registered
    confirmed = CameraUpdated(
        camera_id=new_id,
        name=wanted.name,
        enabled=enabled,
        entry_point=wanted.entry_point,
        when_unavailable=wanted.when_unavailable,
        scene_change_threshold=wanted.scene_change_threshold,
        confirmed=True,
    )
    if not row.confirmed and row.folder == folder:
        return confirmed
    event = registered if row.source == "api" else confirmed
    if await recorded_before(request, event) is not None:
        return None
    raise _conflict(row, folder)


def _own_threshold(body: CameraChange) -> float | None:
    """Return what the event says: None leaves it, 0 lets SCENE_CHANGE_THRESHOLD count again."""
    if body.scene_change_threshold is UNSET:
        return None
    return body.scene_change_threshold or 0.0


def _conflict(row: CameraRow, folder: str) -> ProblemError:
    if row.folder == folder:
        detail = f"folder {folder!r} belongs to camera {row.id!r} ({row.name!r}) already"
    else:
        detail = (
            f"folder {folder!r} would get the id {row.id!r}, which the camera of folder "
            f"{row.folder!r} has: take a folder name that differs in its letters or digits"
        )
    return ProblemError("camera_exists", detail, headers={"Location": f"/api/cameras/{row.id}"})


def _name(text: str) -> str:
    name = text.strip()
    if not name:
        raise ProblemError("invalid_body", "name is only white space: give 1 to 255 characters")
    return name


def folder_below(base: Path, wanted: str) -> str:
    """Return the name of the camera folder that `wanted` means, right below the base folder.

    `wanted` may be relative or start with the base folder's path. Raises ProblemError for what
    lies outside, deeper, or leads out through a link.
    """
    path = PurePosixPath(wanted)
    if path.is_absolute():
        if not path.is_relative_to(base):
            raise _outside(wanted, f"give a folder below {base}")
        path = path.relative_to(base)
    parts = path.parts
    if len(parts) != 1 or ".." in parts:
        raise _outside(wanted, f"a camera's folder lies directly below {base}, like 'front_door'")
    name = parts[0]
    if len(name.encode()) > _NAME_BYTES or name.startswith("."):
        raise _outside(wanted, "its name is longer than 255 bytes or hidden (starts with a dot)")
    if (base / name).resolve() != base.resolve() / name:
        raise _outside(wanted, "it is a link to another place")
    return name


def _outside(wanted: str, advice: str) -> ProblemError:
    return ProblemError("folder_outside", f"folder_path {wanted[:100]!r} is not allowed: {advice}")


def _make_folder(path: Path) -> tuple[bool, str]:
    """Make the folder if it is missing; answer whether it was made, and why it could not be."""
    try:
        path.mkdir()
    except FileExistsError:
        return False, "" if path.is_dir() else f"{path} is a file, not a folder"
    except OSError as error:
        return False, f"{path} is missing and cannot be made here: {error.strerror or error}"
    return True, ""
