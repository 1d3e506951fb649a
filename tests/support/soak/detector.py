"""An instant /detect service that answers by the picture's bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import BodyPartReader, web
from support.detect_service import serve
from support.soak.pictures import objects_in


@asynccontextmanager
async def fake_detector() -> AsyncIterator[str]:
    """Serve until the block ends; yields the base URL."""

    async def detect(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        return web.json_response(_answer(bytes(await part.read())))

    async def health(_: web.Request) -> web.Response:
        body = {"status": "healthy", "model_loaded": True, "device": "none", "model": "fake"}
        return web.json_response(body)

    async with serve(detect, health) as url:
        yield url


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
