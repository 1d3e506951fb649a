"""A `/detect` service that answers one sure person at once: here, or in a process of its own.

`python -m benchmarks.instant_detector PORT` serves until SIGTERM.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from benchmarks.roles import free_port

ANSWER = {
    "detections": [
        {
            "class": "person",
            "confidence": 0.95,
            "bbox": {"x": 10, "y": 10, "width": 100, "height": 200},
        }
    ],
    "inference_time_ms": 0.1,
    "image_width": 768,
    "image_height": 576,
}


def application() -> web.Application:
    """Return the service."""
    app = web.Application(client_max_size=50_000_000)
    app.add_routes([web.post("/detect", _detect), web.get("/health", _health)])
    return app


async def _detect(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response(ANSWER)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "healthy", "model_loaded": True, "device": "none"})


@asynccontextmanager
async def detector_here() -> AsyncIterator[str]:
    """Serve on this process's event loop; gives the address."""
    runner = web.AppRunner(application())
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def detector_beside() -> AsyncIterator[str]:
    """Serve in a process of its own, in a session of its own; gives the address."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.instant_detector", str(port)],
        env=os.environ,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _wait_for(url)
        yield url
    finally:
        child.terminate()
        await asyncio.to_thread(child.wait, 20)


async def _wait_for(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"{url}/health") as response:
                    response.raise_for_status()
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
