"""`hsi up` as a person runs it: up, through deaths of its parts, down, and up again."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from support import detect_service
from support.installation import Installation, gone, installed
from support.models import demo_picture
from support.servers import wait_until

from hsi.camera_folder import pictures_of
from runtime.settings import load_settings


async def _detect(_: web.Request) -> web.Response:
    person = {"class": "person", "confidence": 0.97, "bbox": _box()}
    size = {"image_width": 768, "image_height": 576}
    return web.json_response({"detections": [person], "inference_time_ms": 1.0, **size})


def _box() -> dict[str, int]:
    return {"x": 100, "y": 100, "width": 50, "height": 120}


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"model_loaded": True, "model": "instant", "version": "1"})


@pytest.fixture
async def detector_url() -> AsyncIterator[str]:
    async with detect_service.serve(_detect, _health) as url:
        yield url


async def events_of(installation: Installation, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        try:
            found[:] = installation.get("/api/events")["events"]
        except OSError:  # while the API is being started again
            return False
        return len(found) >= count

    await asyncio.to_thread(installation.wait, enough, f"fewer than {count} events")
    return found


async def test_up_through_deaths_and_up_again(state_folder: Path, detector_url: str) -> None:
    settings = {"RTDETR_URL": detector_url, "BATCH_IDLE_TIMEOUT_SECONDS": "1"}
    with installed(state_folder, **settings) as installation:
        await asyncio.to_thread(installation.start)
        first = installation.pids
        assert {"supervisor", "watch", "detect", "project", "api", "valkey", "postgres"} <= {
            *first
        }
        assert first["watch"] == first["detect"]
        installation.drop("Front Door", "one.jpg", demo_picture("yard-1-01.jpg"))
        await events_of(installation, 1)
        beside = load_settings(environ={"HSI_STATE_DIR": str(installation.state)})
        assert pictures_of(beside).read("camera:Front Door/one.jpg")

        for role in ("valkey", "watch", "project", "api", "postgres"):
            await asyncio.to_thread(_kill_and_wait_for_another, installation, role)
        installation.drop("Back Yard", "two.jpg", demo_picture("yard-1-02.jpg"))
        before = await events_of(installation, 2)
        pids = installation.pids

        assert await asyncio.to_thread(installation.stop) == 0
        assert gone(pids)
        assert not installation.ready_file.exists()
        said = installation.said()
        assert "pipeline ended with signal SIGKILL; starting it again now" in said
        assert said.index("stopping in order") < said.index("stopped; everything")

        await asyncio.to_thread(installation.start)
        after = await events_of(installation, 2)
        assert sorted(event["id"] for event in after) == sorted(event["id"] for event in before)
        assert await asyncio.to_thread(installation.stop, signal.SIGINT) == 0


def _kill_and_wait_for_another(installation: Installation, role: str) -> None:
    old = installation.pids[role]
    psutil.Process(old).kill()
    installation.wait(
        lambda: installation.pids[role] != old, f"{role} did not come back", seconds=30
    )


def test_killed_supervisor_takes_everything_with_it(state_folder: Path) -> None:
    with installed(state_folder, RTDETR_URL="http://127.0.0.1:9") as installation:
        installation.start()
        pids = installation.pids
        os.kill(pids["supervisor"], signal.SIGKILL)
        assert installation.process is not None
        installation.process.wait(10)
        wait_until(lambda: gone(pids), seconds=30)


def test_second_up_on_the_same_state_and_on_a_taken_port(state_folder: Path) -> None:
    with (
        installed(state_folder, RTDETR_URL="http://127.0.0.1:9") as installation,
        socket.socket() as taken,
    ):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert installation.spawn("--port", str(port)).wait(60) == 1
        assert f"the API cannot use port {port} at 127.0.0.1" in installation.said()

        installation.start()
        second = Installation(state_folder, RTDETR_URL="http://127.0.0.1:9")
        second.ready_file = state_folder / "second.json"
        assert second.spawn().wait(60) == 1
        assert (
            f"in use by another hsi (process {installation.pids['supervisor']})" in second.said()
        )
        assert installation.stop() == 0
