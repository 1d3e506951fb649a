"""An instant /detect service that answers by the picture's bytes, unless it is to be away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import BodyPartReader, web
from support.detect_service import serve
from support.soak.pictures import objects_in


class FakeDetector:
    """What the service does."""

    def __init__(self) -> None:
        self.url = ""
        self.away = False

    async def detect(self, request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        data = bytes(await part.read())
        if self.away:
            return web.json_response({"detail": "away"}, status=503)
        return web.json_response(_answer(data))

    async def health(self, _: web.Request) -> web.Response:
        body = {"status": "healthy", "model_loaded": True, "device": "none", "model": "fake"}
        return web.json_response(body, status=503 if self.away else 200)


@asynccontextmanager
async def fake_detector() -> AsyncIterator[FakeDetector]:
    """Serve it until the block ends."""
    detector = FakeDetector()
    async with serve(detector.detect, detector.health) as url:
        detector.url = url
        yield detector


def _answer(data: bytes) -> dict[str, object]:
    box = {"x": 4, "y": 4, "width": 20, "height": 30}
    return {
        "detections": [
            {"class": label, "confidence": score, "bbox": box} for label, score in objects_in(data)
        ],
        "inference_time_ms": 0.1,
        "image_width": 64,
        "image_height": 48,
    }
