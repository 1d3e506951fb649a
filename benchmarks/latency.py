"""File closed → push on /ws/events, for fast-path pictures, with an instant fake detector.

The roles run as in `hsi up`: one pipeline process, one projector, one API, embedded Valkey
(appendfsync everysec) and PostgreSQL. The detector is a local `/detect` service that answers one
sure person at once, so that what is measured is everything but the model. Twenty pictures of
768x576 a second come to forty cameras; with a window of one second each of them is a batch of its
own and is pushed as a fast-path event.
"""

import asyncio
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from benchmarks.instant_detector import detector_here
from benchmarks.roles import free_port, hsi, roles
from benchmarks.support import servers

RATE = 20.0
CAMERAS = 40
ROLES = {
    "pipeline": ["agents", "watch", "detect", "batch", "assess", "refine", "monitor"],
    "project": ["agents", "project"],
    "api": ["api"],
}


def run(*, full: bool) -> dict[str, float]:
    """Return milliseconds from the file's close to the push: median and 99th percentile."""
    seconds = 50 if full else 20
    with servers(postgres=True) as embedded:
        folder = Path(tempfile.mkdtemp(prefix="hsi-latency-", dir="/tmp"))
        try:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            environ = {"REDIS_URL": embedded.redis_url, "DATABASE_URL": embedded.database_url}
            delays = asyncio.run(_measure(folder, environ, int(seconds * RATE)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    milliseconds = np.array(delays) * 1000
    return {
        "file_to_push_p50_ms": round(float(np.percentile(milliseconds, 50)), 1),
        "file_to_push_p99_ms": round(float(np.percentile(milliseconds, 99)), 1),
        "files": len(delays),
        "files_per_s": RATE,
    }


async def _measure(folder: Path, environ: dict[str, str], count: int) -> list[float]:
    async with house(folder, environ) as home:
        return await drop_and_listen(home, count)


@dataclass(frozen=True)
class House:
    """A running installation."""

    cameras: Path
    port: int
    environ: Mapping[str, str]


@asynccontextmanager
async def house(
    folder: Path, environ: Mapping[str, str], *, sessions: bool = False
) -> AsyncIterator[House]:
    """Run the roles with a fake detector; `sessions`: each in its own, as `hsi up` does."""
    cameras = folder / "cameras"
    for number in range(CAMERAS):
        (cameras / f"cam{number:02}").mkdir(parents=True)
    async with detector_here() as detector:
        port = free_port()
        own = {
            "RTDETR_URL": detector,
            "API_PORT": str(port),
            "API_HOST": "127.0.0.1",
            "EMBEDDED_LLM": "off",
            "FOSCAM_BASE_PATH": str(cameras),
            "HSI_STATE_DIR": str(folder / "state"),
            "LOG_FILE_PATH": str(folder / "log.jsonl"),
            "BATCH_WINDOW_SECONDS": "1",
            "BATCH_IDLE_TIMEOUT_SECONDS": "1",
        }
        environ = {**environ, **own}
        subprocess.run(hsi("migrate"), env=os.environ | environ, check=True)
        async with roles(folder, environ, _roles(environ), sessions=sessions):
            yield House(cameras, port, environ)


def _roles(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the processes as `hsi up` runs them: some roles depend on the settings."""
    telling = ["notify"] if "DEFAULT_WEBHOOK_URL" in environ else []
    looking = [] if environ.get("SCENE_CHANGE_ENABLED") == "false" else ["scene"]
    return {**ROLES, "pipeline": [*ROLES["pipeline"], *telling, *looking]}


async def drop_and_listen(home: House, count: int, first: int = 0) -> list[float]:
    """Drop pictures with the numbers from `first` on; return the seconds of each to its push."""
    closed: dict[str, float] = {}
    delays: list[float] = []
    picture = _pictures(first)
    url = f"ws://127.0.0.1:{home.port}/ws/events"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        listener = asyncio.create_task(_listen(ws, closed, delays, count + CAMERAS))
        begin = time.monotonic()
        for number in range(count + CAMERAS):
            await asyncio.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            camera = f"cam{number % CAMERAS:02}"
            data = next(picture)
            with (home.cameras / camera / f"{first + number:06}.jpg").open("wb") as file:
                file.write(data)
            closed[camera] = time.perf_counter()
        await asyncio.wait_for(listener, 30)
    # The first picture of each camera also registers it; that is not the steady state.
    return delays[CAMERAS:]


async def _listen(
    ws: aiohttp.ClientWebSocketResponse,
    closed: dict[str, float],
    delays: list[float],
    count: int,
) -> None:
    while len(delays) < count:
        message = json.loads(await ws.receive_str())
        now = time.perf_counter()
        data = message.get("data", {})
        if message["type"] == "event" and data["stage"] == "fast_path":
            delays.append(now - closed[data["camera_id"]])


def _pictures(first: int) -> Iterator[bytes]:
    """Yield JPEG pictures that all differ, without re-encoding: a comment segment is changed."""
    pixels = np.random.default_rng(7).integers(0, 255, (72, 96, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((768, 576))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = buffer.getvalue()
    number = first
    while True:
        number += 1
        text = f"{number:016}".encode()
        yield data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]
