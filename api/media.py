"""Routes of pictures: the file, a thumbnail, a picture with its detection drawn in."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES
from api.thumbnails import Rendered, tag_of
from projections.rows import PictureRow

FOR_EVER = "private, max-age=31536000, immutable"
"""An id names the bytes, so what was answered once stays right."""

routes = Routes("media")


@routes.get(
    "/api/pictures/{id}/image", "image/jpeg", problems=["picture_not_found", "picture_gone"]
)
async def picture_image(request: web.Request) -> web.Response:
    """Answer the picture's file."""
    picture = await _picture(request)
    pictures = request.app[SERVICES].pictures
    return await picture_response(request, picture.picture_id, lambda: pictures.original(picture))


@routes.get(
    "/api/pictures/{id}/thumbnail",
    "image/jpeg",
    problems=["picture_not_found", "picture_gone", "picture_unreadable"],
)
async def picture_thumbnail(request: web.Request) -> web.Response:
    """Answer the picture at most 320 pixels wide."""
    picture = await _picture(request)
    pictures = request.app[SERVICES].pictures
    return await picture_response(
        request, f"{picture.picture_id}-320", lambda: pictures.thumbnail(picture)
    )


@routes.get(
    "/api/detections/{id}/image",
    "image/jpeg",
    problems=["detection_not_found", "picture_not_found", "picture_gone", "picture_unreadable"],
)
async def detection_image(request: web.Request) -> web.Response:
    """Answer the picture with the detection's box drawn in."""
    services = request.app[SERVICES]
    wanted = path_id(request, "detection_not_found")
    detection = await services.queries.detection(wanted)
    if detection is None:
        raise ProblemError("detection_not_found", f"there is no detection {wanted!r}")
    picture = await services.queries.picture(detection.picture_id)
    if picture is None:
        raise ProblemError("picture_not_found", f"there is no picture {detection.picture_id!r}")
    return await picture_response(
        request,
        tag_of(detection),
        lambda: services.pictures.boxed(picture, detection),
        cache_control="private, no-cache",
    )


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
    cache_control: str = FOR_EVER,
) -> web.Response:
    """Answer an image, or 304 to a client that has it already."""
    headers = {"Cache-Control": cache_control, "ETag": f'"{tag}"'}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    made = await render()
    return web.Response(body=made.data, content_type=made.content_type, headers=headers)
