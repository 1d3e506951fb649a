"""The detector is killed while pictures arrive: who is told, who is not, and what comes of all.

Everything runs as real processes. One camera wishes to be told of what nobody can look at, the
other does not; the process that tells is killed as well.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from support.detector_process import DetectorProcess
from support.installation import Installation, installed
from support.ledger import file_of
from support.servers import free_ports
from support.watching import eventually, jpeg

Json = Any
TELLS, HOLDS = "Garden", "Garage"
MINUTES_AGO = {TELLS: 10, HOLDS: 120}
"""How old the pictures are: late both, those of the garage too old to alert."""


@pytest.fixture
def detector() -> Iterator[DetectorProcess]:
    process = DetectorProcess(free_ports(1)[0])
    process.start()
    yield process
    process.kill()


class House:
    """What runs, and what was dropped into it."""

    def __init__(self, installation: Installation, session: ClientSession) -> None:
        self.installation = installation
        self.session = session
        self.files: list[tuple[str, Path]] = []

    async def ask(self, path: str) -> Json:
        async with self.session.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def add(self, camera: str, when_unavailable: str) -> None:
        body = {"name": camera, "folder_path": camera, "when_unavailable": when_unavailable}
        async with self.session.post("/api/cameras", json=body) as response:
            assert response.status == 201, await response.text()
            assert (await response.json())["when_unavailable"] == when_unavailable

    def drop(self, camera: str) -> None:
        """Drop a picture that was taken a second after the one before."""
        number = len(self.files)
        taken = time.time() - MINUTES_AGO[camera] * 60 + number
        folder = self.installation.cameras / camera
        part = folder / f".{number}.part"
        part.write_bytes(jpeg(number))
        os.utime(part, (taken, taken))
        self.files.append((camera, part.rename(folder / f"{number}.jpg")))

    async def waiting(self) -> int | None:
        """Return how many pictures the paused stage has to do; None while it is not paused."""
        stages = (await self.ask("/api/system/health"))["stages"]
        stage = next(each for each in stages if each["stage"] == "detect")
        closed = stage["gate"] == "closed" and stage["waits_for"] == "detector"
        return stage["pending"] + stage["processing"] if closed else None

    async def wait_for_all(self) -> None:
        """Wait until every picture is seen to wait."""

        async def all_wait() -> bool:
            return await self.waiting() == len(self.files)

        await eventually(all_wait, seconds=60)


async def heard(socket: ClientWebSocketResponse, seconds: float) -> list[Json]:
    """Return every message that comes until none has come for so long."""
    messages = []
    while True:
        try:
            messages.append(await socket.receive_json(timeout=seconds))
        except TimeoutError:
            return messages


async def test_what_nobody_can_look_at_is_told_once_if_wished_and_looked_at_later(
    state_folder: Path, detector: DetectorProcess
) -> None:
    settings = {"RTDETR_URL": detector.url, "BATCH_IDLE_TIMEOUT_SECONDS": "1"}
    with installed(state_folder, **settings) as installation:
        await asyncio.to_thread(installation.start)
        async with ClientSession(installation.base_url) as session:
            house = House(installation, session)
            await house.add(TELLS, "notify")
            await house.add(HOLDS, "hold")
            socket = await session.ws_connect("/ws/events")
            await _while_it_is_away(house, detector, socket)
            await asyncio.to_thread(detector.start)
            await _once_it_is_back(house, socket)
        assert await asyncio.to_thread(installation.stop) == 0


async def _while_it_is_away(
    house: House, detector: DetectorProcess, socket: ClientWebSocketResponse
) -> None:
    await asyncio.to_thread(detector.kill)
    for camera in (HOLDS, TELLS, TELLS):
        house.drop(camera)
    while (message := await socket.receive_json(timeout=30))["type"] != "unverified_activity":
        continue
    assert message["data"]["camera_id"] == TELLS.lower()
    await house.wait_for_all()
    os.kill(house.installation.pids["detect"], signal.SIGKILL)
    for camera in (TELLS, HOLDS):
        house.drop(camera)
    await house.wait_for_all()
    [row] = (await house.ask("/api/unverified"))["unverified"]
    assert row["id"] == message["data"]["id"]
    assert (row["state"], row["told_at"]) == ("pending", message["data"]["told_at"])


async def _once_it_is_back(house: House, socket: ClientWebSocketResponse) -> None:
    async def all_assessed() -> bool:
        found = [await file_of(house.installation, path) for _, path in house.files]
        return all(file["state"] == "assessed" for file in found)

    await eventually(all_assessed, seconds=60)
    told = await heard(socket, 1.5)
    assert not [each for each in told if each["type"] == "unverified_activity"]
    events = [each["data"] for each in told if each["type"] == "event"]
    assert {(each["camera_id"], each["late"], each["alert"]) for each in events} == {
        (TELLS.lower(), True, True),
        (HOLDS.lower(), True, False),
    }
    for _, path in house.files:
        [picture] = (await file_of(house.installation, path))["pictures"]
        captured = datetime.fromisoformat(picture["captured_at"])
        assert abs(captured.timestamp() - path.stat().st_mtime) < 0.001
    [row] = (await house.ask("/api/unverified"))["unverified"]
    assert row["state"] == "assessed"
    url = ("--url", house.installation.base_url)
    told_as = await asyncio.to_thread(_why, str(house.files[1][1]), *url)
    assert "Told as unverified at" in told_as
    assert f"This picture became event {row['event_id']}" in told_as
    old = next(each for each in events if not each["alert"])
    assert "Too old to alert: 120 min, the limit is 60 min" in await asyncio.to_thread(
        _why, old["event_id"], *url
    )


def _why(*arguments: str) -> str:
    command = [sys.executable, "-P", "-m", "hsi", "why", *arguments]
    env = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())
