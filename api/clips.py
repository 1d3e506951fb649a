"""Routes of clips: what one was made of, make one of an event's pictures, and its file."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from api.media import file_response
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from domain.errors import PermanentError
from inference.clip_store import ClipStore, Content, Span, StoredClip
from inference.clips import FRAMES_PER_SECOND, NoPicturesError, Shot
from projections.rows import EventRow, PictureRow

routes = Routes("media")

MOST_PICTURES: Final = 240
"""Two minutes of film; of more pictures evenly chosen ones are shown."""


class ClipWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/events/{id}/clip/generate."""

    start_offset: Annotated[float, msgspec.Meta(ge=-300, le=0)] = -15
    """Seconds before the event's begin from which pictures of its camera are shown; whole ones."""
    end_offset: Annotated[float, msgspec.Meta(ge=0, le=300)] = 30
    """Seconds after its end up to which they are."""
    force: bool = False
    """Make it anew also where the same pictures have been made into one."""


class ClipAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The clip of an event; null where none was made."""

    event_id: str
    available: bool
    url: str | None = None
    start_offset: int | None = None
    end_offset: int | None = None
    begins_at: datetime | None = None
    """When its first picture was taken."""
    frames: int | None = None
    """Pictures in it, two a second, each with its time drawn in."""
    duration_seconds: float | None = None
    size_bytes: int | None = None
    generated_at: datetime | None = None


@routes.get("/api/events/{id}/clip", ClipAnswer, problems=["event_not_found"])
async def event_clip(request: web.Request) -> web.Response:
    """Answer the clip that was made of an event, and where its file is."""
    event = await _event(request)
    found = await asyncio.to_thread(_store(request).of_event, event.id)
    return answer(_answer(event.id, found[0] if found else None))


@routes.post(
    "/api/events/{id}/clip/generate",
    ClipAnswer,
    problems=["event_not_found", "clip_without_pictures"],
)
async def generate_clip(request: web.Request, body: ClipWanted | None) -> web.StreamResponse:
    """Make a clip of the pictures that the event's camera took around it, two a second.

    It is made anew where it would show other pictures than the one that is there, or by `force`.
    """
    wanted = body or ClipWanted()
    services, store = request.app[SERVICES], _store(request)
    event = await _event(request)
    span = Span(round(wanted.start_offset), round(wanted.end_offset))
    pictures = _chosen(
        await services.queries.pictures_between(
            event.camera_id,
            event.started_at + timedelta(seconds=span.start_offset),
            event.ended_at + timedelta(seconds=span.end_offset),
        )
    )
    if not pictures:
        raise ProblemError("clip_without_pictures", "there is no picture of that time any more")
    ids = [picture.picture_id for picture in pictures]
    content = Content(event.id, pictures[0].captured_at, span, ids)
    for clip in [] if wanted.force else await asyncio.to_thread(store.of_event, event.id):
        if clip.digest == content.digest:
            return answer(_answer(event.id, clip))
    try:
        made = await services.clips.make(content, _shots(services, pictures))
    except NoPicturesError as error:
        raise ProblemError("clip_without_pictures", str(error)) from error
    return answer(_answer(event.id, made))


@routes.get(
    "/api/media/clips/{file}",
    {200: "video/mp4", 206: "video/mp4", 304: None},
    problems=["clip_not_found", "range_not_satisfiable"],
)
async def clip_file(request: web.Request) -> web.StreamResponse:
    """Answer a clip's file, or the part of it that is asked for."""
    name = request.match_info["file"]
    clip = await asyncio.to_thread(_store(request).find, name)
    # A clip goes with its event: who may not see that, or nobody any more, gets neither.
    if clip is None or await request.app[SERVICES].queries.event(clip.event_id) is None:
        raise ProblemError("clip_not_found", f"there is no clip {name[:200]!r}")
    return await file_response(request, clip.path)


def _store(request: web.Request) -> ClipStore:
    return request.app[SERVICES].clips.store


async def _event(request: web.Request) -> EventRow:
    wanted = path_id(request, "event_not_found")
    whole = await request.app[SERVICES].queries.event(wanted)
    if whole is None:
        raise ProblemError("event_not_found", f"there is no event {wanted!r}")
    return whole.event


def _answer(event_id: str, clip: StoredClip | None) -> ClipAnswer:
    if clip is None:
        return ClipAnswer(event_id=event_id, available=False)
    return ClipAnswer(
        event_id=event_id,
        available=True,
        url=f"/api/media/clips/{clip.name}",
        start_offset=clip.span.start_offset,
        end_offset=clip.span.end_offset,
        begins_at=clip.begins_at,
        frames=clip.frames,
        duration_seconds=clip.frames / FRAMES_PER_SECOND,
        size_bytes=clip.size_bytes,
        generated_at=clip.made_at,
    )


def _chosen(pictures: Sequence[PictureRow]) -> list[PictureRow]:
    """Return the pictures that are still there, at most MOST_PICTURES, over the whole time."""
    there = [picture for picture in pictures if picture.redacted_at is None]
    if len(there) <= MOST_PICTURES:
        return there
    step = (len(there) - 1) / (MOST_PICTURES - 1)
    return [there[round(number * step)] for number in range(MOST_PICTURES)]


def _shots(services: ApiServices, pictures: Sequence[PictureRow]) -> Iterator[Shot]:
    zone = ZoneInfo(services.config.time_zone)
    for picture in pictures:
        try:
            data = services.pictures.source.read(picture.uri, expected_sha256=picture.sha256)
        except PermanentError:
            continue  # Moved, overwritten or deleted meanwhile: the others are shown.
        yield Shot(data, f"{picture.captured_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}")
