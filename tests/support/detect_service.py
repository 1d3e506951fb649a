"""A /detect service on a free port, as good or bad as its test makes it."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import web

from inference.ports import Detector

AnyDetector = TypeVar("AnyDetector", bound=Detector)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(
    detect: Handler, health: Handler, encrypted: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve the two paths until the block ends; yields the base URL."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/detect", detect)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=encrypted)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if encrypted else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def using(detector: AnyDetector) -> AsyncIterator[AnyDetector]:
    """Close the detector at the end of the block, whatever happens in it."""
    try:
        yield detector
    finally:
        await detector.close()
