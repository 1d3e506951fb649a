"""A /detect service that sees a person in every picture at once, unless it is to be away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from support import detect_service


class InstantDetector:
    """What the service does, and how often it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.away = False
        self.asked = 0

    async def detect(self, request: web.Request) -> web.Response:
        await request.read()
        if self.away:
            return web.json_response({"detail": "away"}, status=503)
        self.asked += 1
        box = {"x": 30, "y": 10, "width": 40, "height": 80}
        person = {"class": "person", "confidence": 0.97, "bbox": box}
        answer = {"detections": [person], "inference_time_ms": 1.0}
        return web.json_response({**answer, "image_width": 100, "image_height": 100})

    async def health(self, _: web.Request) -> web.Response:
        status = 503 if self.away else 200
        told = {"model_loaded": not self.away, "model": "instant", "version": "1"}
        return web.json_response(told, status=status)


@asynccontextmanager
async def instant_detector() -> AsyncIterator[InstantDetector]:
    """Serve it until the block ends."""
    detector = InstantDetector()
    async with detect_service.serve(detector.detect, detector.health) as url:
        detector.url = url
        yield detector
