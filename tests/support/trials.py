"""Detectors, pictures and cameras for trials of a candidate."""

import hashlib
import io
from collections.abc import Sequence

import msgspec
import numpy as np
from aiohttp import web
from PIL import Image
from support.instant_detector import InstantDetector
from support.logs import NOON, received

from domain.events import Box, Event, ImageReceived
from inference.ports import Detected, ModelIdentity, Picture
from streams.envelope import Envelope, Position


def jpeg() -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((100, 100, 3), 10, np.uint8)).save(target, "JPEG")
    return target.getvalue()


PICTURE = jpeg()


def picture_received(name: str) -> ImageReceived:
    """Return a picture of the camera porch whose bytes are PICTURE."""
    told = received(name)
    return msgspec.structs.replace(told, sha256=hashlib.sha256(PICTURE).hexdigest())


class Pictures:
    """Every picture is there, unless an error is raised instead."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        if self.error is not None:
            raise self.error
        return PICTURE


class Cameras:
    """Every camera is enabled."""

    def enabled(self, camera_id: str) -> bool:
        return True


class FixedDetector:
    """Sees the same in every picture, or raises."""

    max_batch = 4

    def __init__(self, model: str, *boxes: Box, error: Exception | None = None) -> None:
        self.identity = ModelIdentity(model, "7", "http")
        self.boxes = boxes
        self.error = error
        self.calls = 0

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return [Detected(self.boxes, self.identity, 9.0) for _ in pictures]

    async def check(self) -> ModelIdentity:
        return self.identity

    async def close(self) -> None:
        return


class BlindService(InstantDetector):
    """A /detect service that never sees anything."""

    async def detect(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        answer = {"detections": [], "inference_time_ms": 1.0}
        return web.json_response({**answer, "image_width": 100, "image_height": 100})

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"model_loaded": True, "model": "blind", "version": "2"})


def envelopes(events: Sequence[Event]) -> list[Envelope]:
    """Return events as they would be handed to a handler."""
    return [
        Envelope(f"e{n}", event, event.STREAM, 0, Position(n, 0), NOON, "c", "")
        for n, event in enumerate(events)
    ]
