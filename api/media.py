"""Routes of pictures: the file, a thumbnail, a detection drawn in or cut out; files by path."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES
from api.thumbnails import PictureSource, Rendered, tag_of
from domain.errors import PermanentError
from projections.rows import CameraRow, DetectionRow, FileRow, PictureRow

FOR_EVER = "private, max-age=31536000, immutable"
"""An id names the bytes, so what was answered once stays right."""

SERVED: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".avi": "video/x-msvideo",
    ".webm": "video/webm",
}
"""Ends of the names of files that are given out by their path, and what they are."""

routes = Routes("media")


_IMAGE: Final = {200: "image/*", 206: "image/*", 304: None}
_GONE: Final = ("picture_gone", "picture_changed", "picture_redacted", "picture_unreadable")
_PROBLEMS: Final = ("picture_not_found", *_GONE, "range_not_satisfiable")


@routes.get("/api/pictures/{id}/image", _IMAGE, problems=_PROBLEMS)
async def picture_image(request: web.Request) -> web.Response:
    """Answer the picture's file."""
    picture = await _picture(request)
    pictures = request.app[SERVICES].pictures
    return await picture_response(
        request,
        picture.picture_id,
        lambda: pictures.original(picture),
        modified=picture.received_at,
    )


@routes.get("/api/pictures/{id}/thumbnail", _IMAGE, problems=_PROBLEMS)
async def picture_thumbnail(request: web.Request) -> web.Response:
    """Answer the picture at most 320 pixels wide."""
    picture = await _picture(request)
    pictures = request.app[SERVICES].pictures
    return await picture_response(
        request,
        f"{picture.picture_id}-320",
        lambda: pictures.thumbnail(picture),
        modified=picture.received_at,
    )


@routes.get("/api/detections/{id}/image", _IMAGE, problems=("detection_not_found", *_PROBLEMS))
async def detection_image(request: web.Request) -> web.Response:
    """Answer the picture with the detection's box drawn in."""
    pictures = request.app[SERVICES].pictures
    detection, picture = await _detection(request)
    return await picture_response(
        request,
        tag_of(detection),
        lambda: pictures.boxed(picture, detection),
        modified=picture.received_at,
        cache_control="private, no-cache",
    )


@routes.get("/api/detections/{id}/crop", _IMAGE, problems=("detection_not_found", *_PROBLEMS))
async def detection_crop(request: web.Request) -> web.Response:
    """Answer the detected object, cut out of the picture with a little of what is around it."""
    pictures = request.app[SERVICES].pictures
    detection, picture = await _detection(request)
    return await picture_response(
        request,
        f"{tag_of(detection)}-crop",
        lambda: pictures.crop(picture, detection),
        modified=picture.received_at,
        cache_control="private, no-cache",
    )


@routes.get(
    "/api/detections/{id}/video",
    {200: "video/mp4", 206: "video/mp4", 304: None},
    problems=["detection_not_found", "video_not_found", *_GONE[:3], "range_not_satisfiable"],
)
async def detection_video(request: web.Request) -> web.StreamResponse:
    """Answer the video in which an object was found, or the part of it that is asked for."""
    detection, _ = await _detection(request)
    file = await _video_of(request, detection)
    if file.redacted_at is not None:
        when = file.redacted_at.isoformat(timespec="seconds")
        raise ProblemError("picture_redacted", f"retention deleted this video at {when}")
    path = await asyncio.to_thread(_video_path, request.app[SERVICES].pictures.source, file)
    return await file_response(request, path)


@routes.get(
    "/api/detections/{id}/video/thumbnail",
    _IMAGE,
    problems=("detection_not_found", "video_not_found", *_PROBLEMS),
)
async def detection_video_thumbnail(request: web.Request) -> web.Response:
    """Answer the frame of the video in which an object was found, at most 320 pixels wide."""
    detection, picture = await _detection(request)
    await _video_of(request, detection)
    pictures = request.app[SERVICES].pictures
    return await picture_response(
        request,
        f"{picture.picture_id}-320",
        lambda: pictures.thumbnail(picture),
        modified=picture.received_at,
    )


async def _video_of(request: web.Request, detection: DetectionRow) -> FileRow:
    found = await request.app[SERVICES].queries.file(detection.file_id)
    if found is None or found.file.media != "video":
        raise ProblemError(
            "video_not_found", f"{detection.id} was found in a picture that is no video's frame"
        )
    return found.file


def _video_path(source: PictureSource, file: FileRow) -> Path:
    """Return where a video lies; its size must still be what was taken in.

    Its checksum is not compared: it may have gigabytes, and is asked for part by part.
    """
    try:
        path = source.path(f"camera:{file.path}")
        size = path.stat().st_size
    except (PermanentError, OSError) as error:
        raise ProblemError("picture_gone", f"the video {file.path} is no longer there") from error
    if size != file.size_bytes or path.suffix.lower() not in SERVED:
        raise ProblemError("picture_changed", f"{file.path} is another file since it was taken in")
    return path


@routes.get(
    r"/api/media/cameras/{camera}/{file:[\s\S]+}",
    {200: "*/*", 206: "*/*", 304: None},
    problems=["camera_not_found", "file_not_found", "file_not_served", "range_not_satisfiable"],
)
async def camera_file(request: web.Request) -> web.StreamResponse:
    """Answer a picture or video as it lies in the camera's folder."""
    camera = await _camera(request)
    folder = request.app[SERVICES].config.base_folder / camera.folder
    path = await asyncio.to_thread(file_below, folder, request.match_info["file"])
    return await file_response(request, path)


async def file_response(request: web.Request, path: Path) -> web.FileResponse:
    """Answer a file or the part of it that is asked for, or 304 to a client that has it."""
    try:
        status = await asyncio.to_thread(path.stat)
    except OSError as error:  # It was there a moment ago.
        raise ProblemError("file_not_found", f"{path.name} is no longer there") from error
    if hdrs.IF_RANGE not in request.headers:
        _part(request, status.st_size, "")  # says what is wrong, where aiohttp only refuses
    response = web.FileResponse(path, headers={"Cache-Control": "private, no-cache"})
    response.content_type = SERVED[path.suffix.lower()]
    return response


def file_below(folder: Path, wanted: str) -> Path:
    """Return the file that `wanted` means below `folder`; raises ProblemError for any other."""
    parts = wanted.split("/")
    odd = any(part.startswith(".") or not part or "\\" in part for part in parts)
    if odd or not wanted.isprintable() or Path(wanted).suffix.lower() not in SERVED:
        raise _not_served(wanted, "give a file of the camera: " + ", ".join(SERVED))
    path = folder.joinpath(*parts)
    try:
        if path.resolve() != folder.resolve() / wanted:
            raise _not_served(wanted, "it is a link to another place")
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # No file system takes it, or links in a ring.
        there = False
    if not there:
        raise ProblemError("file_not_found", f"the camera has no file {wanted[:200]!r}")
    return path


def _not_served(wanted: str, advice: str) -> ProblemError:
    return ProblemError("file_not_served", f"{wanted[:200]!r} is not given out: {advice}")


async def _camera(request: web.Request) -> CameraRow:
    wanted = request.match_info["camera"]
    row = await request.app[SERVICES].queries.camera(wanted) if wanted.isprintable() else None
    if row is None:
        raise ProblemError("camera_not_found", f"there is no camera {wanted[:80]!r}")
    return row


async def _detection(request: web.Request) -> tuple[DetectionRow, PictureRow]:
    queries = request.app[SERVICES].queries
    wanted = path_id(request, "detection_not_found")
    detection = await queries.detection(wanted)
    if detection is None:
        raise ProblemError("detection_not_found", f"there is no detection {wanted!r}")
    picture = await queries.picture(detection.picture_id)
    if picture is None:
        raise ProblemError("picture_not_found", f"there is no picture {detection.picture_id!r}")
    return detection, picture


async def _picture(request: web.Request) -> PictureRow:
    wanted = path_id(request, "picture_not_found")
    picture = await request.app[SERVICES].queries.picture(wanted)
    if picture is None:
        raise ProblemError("picture_not_found", f"there is no picture {wanted!r}")
    return picture


async def picture_response(
    request: web.Request,
    tag: str,
    render: Callable[[], Awaitable[Rendered]],
    *,
    modified: datetime,
    cache_control: str = FOR_EVER,
) -> web.Response:
    """Answer an image or the part of it that is asked for, or 304 to a client that has it."""
    headers = {
        "Cache-Control": cache_control,
        "ETag": f'"{tag}"',
        "Last-Modified": format_datetime(modified.astimezone(UTC), usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if _is_known(request, tag, modified if cache_control == FOR_EVER else None):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    made = await render()
    part = _part(request, len(made.data), tag)
    if part is None:
        return web.Response(body=made.data, content_type=made.content_type, headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(made.data)}"
    return web.Response(
        status=HTTPStatus.PARTIAL_CONTENT,
        body=made.data[part.start : part.stop],
        content_type=made.content_type,
        headers=headers,
    )


def _is_known(request: web.Request, tag: str, modified: datetime | None) -> bool:
    """Say whether a client has what it asks for; a date counts only where it gave no tag.

    `modified` is None where another picture may come within the second that a date tells.
    """
    if hdrs.IF_NONE_MATCH in request.headers:
        return any(known.value in (tag, "*") for known in request.if_none_match or ())
    since = request.if_modified_since
    if modified is None or since is None:
        return False
    return modified.replace(microsecond=0) <= since


def _part(request: web.Request, size: int, tag: str) -> range | None:
    """Return the bytes that are asked for, None for all of them."""
    if request.headers.get("If-Range", f'"{tag}"') != f'"{tag}"':
        return None
    try:
        wanted = request.http_range
    except ValueError:
        return None  # Not one range of bytes: it may be ignored, so it is.
    if wanted.start is None and wanted.stop is None:
        return None
    start, stop, _ = wanted.indices(size)
    if start >= stop:
        raise ProblemError(
            "range_not_satisfiable",
            f"the file has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return range(start, stop)
