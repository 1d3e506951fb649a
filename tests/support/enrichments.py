"""What optional services say, made up: looks near each other, and services that answer."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from support.histories import NOON, PERSON

from domain import ids
from domain.events import (
    Attribute,
    Box,
    EnrichmentService,
    EventCaptioned,
    EventNotEnriched,
    ObjectAttributes,
    ObjectsDescribed,
    ObjectsEmbedded,
    Sighting,
    SightingKind,
)
from inference.enrichment import quantised

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CAR = Box(label="car", score=0.8, x=1.0, y=2.0, width=60.0, height=40.0)


def look(degrees: float, *, dimensions: int = 32) -> bytes:
    """Return a look; two of them are as alike as the cosine of the angle between them."""
    angle = math.radians(degrees)
    numbers = [math.cos(angle), math.sin(angle), *([0.0] * (dimensions - 2))]
    vector = quantised(numbers)
    assert vector is not None
    return vector


def names(camera: str, number: int) -> tuple[str, str, str]:
    """Return a picture's, its batch's and its event's id."""
    picture = ids.picture_id(camera, f"{number:064x}", NOON + timedelta(minutes=number))
    batch = ids.batch_id(camera, picture)
    return picture, batch, ids.event_id(batch)


def embedded(
    camera: str,
    number: int,
    *looks: bytes,
    kind: SightingKind = "person",
    model: str = "clip",
    minutes: float | None = None,
    threshold: float = 0.85,
    window_hours: float = 24.0,
) -> ObjectsEmbedded:
    """Return how the objects of event `number` look; it is `number` minutes after noon."""
    at = _at(number if minutes is None else minutes)
    picture, batch, event = names(camera, number)
    return ObjectsEmbedded(
        camera_id=camera,
        event_id=event,
        batch_id=batch,
        ended_at=at,
        closed_at=at,
        sightings=tuple(
            Sighting(
                detection_id=ids.detection_id(picture, index),
                picture_id=picture,
                captured_at=at,
                kind=kind,
                box=PERSON if kind == "person" else CAR,
                vector=each,
            )
            for index, each in enumerate(looks)
        ),
        threshold=threshold,
        window_hours=window_hours,
        model=model,
        model_version="1",
        seconds=0.1,
    )


def captioned(
    camera: str, number: int, text: str = "a person at a door", *, minutes: float | None = None
) -> EventCaptioned:
    """Return a caption of event `number`."""
    picture, batch, event = names(camera, number)
    at = _at(number if minutes is None else minutes)
    return EventCaptioned(
        camera_id=camera,
        event_id=event,
        batch_id=batch,
        ended_at=at,
        closed_at=at,
        picture_id=picture,
        caption=text,
        model="florence",
        model_version="2",
        seconds=0.5,
    )


def described(
    camera: str, number: int, clothing: str, *, minutes: float | None = None
) -> ObjectsDescribed:
    """Return what the one object of event `number` wears."""
    picture, batch, event = names(camera, number)
    at = _at(number if minutes is None else minutes)
    told = (Attribute(name="clothing", value=clothing, confidence=0.9),)
    return ObjectsDescribed(
        camera_id=camera,
        event_id=event,
        batch_id=batch,
        ended_at=at,
        closed_at=at,
        objects=(
            ObjectAttributes(
                detection_id=ids.detection_id(picture, 0),
                picture_id=picture,
                label="person",
                attributes=told,
            ),
        ),
        model="attributes",
        model_version="3",
        seconds=0.2,
    )


def left_out(
    camera: str,
    number: int,
    service: EnrichmentService = "clip",
    *,
    minutes: float | None = None,
) -> EventNotEnriched:
    """Return the word that a service added nothing to event `number`."""
    _, batch, event = names(camera, number)
    at = _at(number if minutes is None else minutes)
    return EventNotEnriched(
        camera_id=camera,
        event_id=event,
        batch_id=batch,
        ended_at=at,
        closed_at=at,
        service=service,
        code="nothing_to_look_at",
        why="there is no person and no vehicle in it",
    )


def _at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


class Services:
    """The three optional services in one: answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        self.looks: Sequence[float] = [1.0, *([0.0] * 31)]
        self.caption = "a person walks to the door"
        self.attributes: list[dict[str, Any]] = [
            {"name": "clothing", "value": "red jacket", "confidence": 0.8}
        ]
        self.status = 200
        self.body: bytes | None = None
        """Answered instead of what the contract says."""
        self.loaded = True
        self.version = "1.0"

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "healthy",
                "model_loaded": self.loaded,
                "model": "stub",
                "version": self.version,
            }
        )

    def answering(self, path: str, answer: Callable[[], dict[str, Any]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            form = await request.post()
            file = form["file"]
            assert isinstance(file, web.FileField)
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            self.asked.append((path, file.file.read(), fields))
            if self.status != 200 or self.body is not None:
                return web.Response(status=self.status, body=self.body or b"no")
            return web.json_response(answer())

        return handle

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Serve until the block ends; yields the base URL."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/health", self.health)
        for path, answer in (
            ("/caption", lambda: {"caption": self.caption}),
            ("/embed", lambda: {"embedding": list(self.looks)}),
            ("/enrich", lambda: {"attributes": self.attributes}),
        ):
            app.router.add_post(path, self.answering(path, answer))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, bound = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{bound}"
        finally:
            await runner.cleanup()
