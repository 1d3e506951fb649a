"""A /detect service on a free port: the contract's other side, around a real detector."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import BodyPartReader, web

from domain.errors import PermanentError
from inference.images import decode
from inference.ports import Detected, Detector, Picture

AnyDetector = TypeVar("AnyDetector", bound=Detector)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(detect: Handler, health: Handler) -> AsyncIterator[str]:
    """Serve the two paths until the block ends; yields the base URL."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/detect", detect)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def using(detector: AnyDetector) -> AsyncIterator[AnyDetector]:
    """Close the detector at the end of the block, whatever happens in it."""
    try:
        yield detector
    finally:
        await detector.close()


def handlers(detector: Detector) -> tuple[Handler, Handler]:
    """Return the two handlers of a service that really runs `detector`."""

    async def detect(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        assert part.name == "file"
        content = bytes(await part.read())
        try:
            picture = await asyncio.to_thread(decode, content, part.filename or "")
        except PermanentError as error:
            return web.json_response({"detail": str(error)}, status=400)
        (found,) = await detector.detect([picture])
        return web.json_response(answer(found, picture))

    async def health(_: web.Request) -> web.Response:
        identity = await detector.check()
        body = {
            "status": "healthy",
            "model_loaded": True,
            "device": "cpu",
            "cuda_available": False,
            "vram_used_gb": None,
            "model": identity.model,
            "version": identity.version,
        }
        return web.json_response(body)

    return detect, health


def answer(found: Detected, picture: Picture) -> dict[str, object]:
    """Return the contract's answer for what a detector found."""
    detections = [
        {
            "class": box.label,
            "confidence": box.score,
            "bbox": {"x": box.x, "y": box.y, "width": box.width, "height": box.height},
        }
        for box in found.boxes
    ]
    return {
        "detections": detections,
        "inference_time_ms": found.inference_ms,
        "image_width": picture.width,
        "image_height": picture.height,
    }
