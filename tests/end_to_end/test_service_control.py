"""Services of a real `hsi up` under control: restart, and disable over a restart of all."""

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from support import detect_service
from support.installation import Installation, installed
from support.models import demo_picture
from support.serving import until
from support.watching import eventually


async def _detect(_: web.Request) -> web.Response:
    box = {"x": 100, "y": 100, "width": 50, "height": 120}
    person = {"class": "person", "confidence": 0.97, "bbox": box}
    size = {"image_width": 768, "image_height": 576}
    return web.json_response({"detections": [person], "inference_time_ms": 1.0, **size})


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"model_loaded": True, "model": "instant", "version": "1"})


@pytest.fixture
async def detector_url() -> AsyncIterator[str]:
    async with detect_service.serve(_detect, _health) as url:
        yield url


def ask(house: Installation, service: str, action: str) -> tuple[int, Any]:
    """Ask for an action; return the status and what was said."""
    url = f"{house.base_url}/api/system/services/{service}/{action}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="POST"), timeout=60
        ) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def service(house: Installation, name: str) -> dict[str, Any]:
    told = house.get("/api/system/services")["services"]
    found: dict[str, Any] = next(each for each in told if each["name"] == name)
    return found


def command(house: Installation, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hsi", "services", *arguments, "--url", house.base_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_services_are_controlled_and_what_is_disabled_stays_so(
    state_folder: Path, detector_url: str
) -> None:
    settings = {"RTDETR_URL": detector_url, "BATCH_IDLE_TIMEOUT_SECONDS": "1"}
    with installed(state_folder, **settings) as house:
        await asyncio.to_thread(house.start)
        await _restart(house)
        await _disable(house)
        await asyncio.to_thread(_refused, house)
        assert await asyncio.to_thread(house.stop) == 0
        await asyncio.to_thread(house.start)
        await _enable(house)
        assert await asyncio.to_thread(house.stop) == 0


async def _restart(house: Installation) -> None:
    """The page's button: the process is another one, and every client on /ws/system is told."""
    before = house.pids["detect"]
    async with (
        ClientSession(house.base_url) as session,
        session.ws_connect("/ws/system") as socket,
    ):
        asking = asyncio.create_task(asyncio.to_thread(ask, house, "detect", "restart"))
        seen: list[str] = []
        while seen[-2:] != ["starting", "running"]:
            data = (await until(socket, "service_status", seconds=30))["data"]
            if data["service"] == "detect":
                seen.append(data["status"])
        status, said = await asking
    assert (status, said["success"], said["service"]["status"]) == (200, True, "running"), said
    assert house.pids["detect"] not in (before,)
    told = await asyncio.to_thread(service, house, "detect")
    assert (told["restart_count"], told["process"]) == (1, "pipeline")
    assert told["last_restart_at"] is not None
    assert told["uptime_seconds"] < 30


async def _disable(house: Installation) -> None:
    """Without `detect` its work waits for all to see."""
    status, said = await asyncio.to_thread(ask, house, "detect", "disable")
    assert (status, said["service"]["status"]) == (200, "disabled"), said
    assert "detect" not in house.pids
    assert "watch" in house.pids
    health = await asyncio.to_thread(house.get, "/api/system/health")
    assert health["status"] == "degraded"
    assert health["services"]["processes"]["message"] == "detect is disabled by anonymous"
    for action in ("start", "restart"):
        status, said = await asyncio.to_thread(ask, house, "detect", action)
        assert (status, said["code"]) == (409, "service_disabled")
    for number in ("1", "2"):
        house.drop("porch", f"{number}.jpg", demo_picture(f"yard-1-0{number}.jpg"))
    await eventually(lambda: asyncio.to_thread(_waiting, house, 2), seconds=20)


def _waiting(house: Installation, count: int) -> bool:
    stages = house.get("/api/system/health")["stages"]
    return [each["pending"] for each in stages if each["stage"] == "detect"] == [count]


def _refused(house: Installation) -> None:
    for name in ("api", "supervisor", "redis", "database", "detector"):
        status, said = ask(house, name, "stop")
        assert (status, said["code"]) == (409, "service_not_supervised"), name
        assert said["detail"].startswith(f"{name} cannot be controlled: ")
    assert ask(house, "nobody", "stop")[1]["code"] == "service_not_found"
    audit = house.get("/api/audit?limit=50")
    actions = [line["action"] for line in audit["entries"]]
    assert {"restart_service", "disable_service"} <= set(actions)


async def _enable(house: Installation) -> None:
    """The next `hsi up` has not started it; enabled, it does what has waited."""
    assert "detect" not in house.pids
    assert "watch" in house.pids
    told = await asyncio.to_thread(service, house, "detect")
    assert (told["status"], told["enabled"]) == ("disabled", False)
    assert await asyncio.to_thread(_waiting, house, 2)
    said = await asyncio.to_thread(command, house, "enable", "detect")
    assert said == "detect is running (runs in the process 'pipeline')\n"

    async def worked_off() -> bool:
        events = await asyncio.to_thread(house.get, "/api/events")
        return bool(events["events"]) and await asyncio.to_thread(_waiting, house, 0)

    await eventually(worked_off, seconds=20)
