"""Redis and PostgreSQL go away while pictures keep arriving: nothing is lost, nothing comes twice,
and whatever does not need the missing one goes on.

`OUTAGE_SECONDS=30 pytest tests/faults/test_outages.py` makes each outage half a minute long.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession
from support.installation import Installation, installed
from support.instant_detector import instant_detector
from support.ledger import file_of
from support.servers import PrivatePostgres, PrivateValkey
from support.watching import eventually, jpeg

from domain.events import ImageReceived, ObjectsDetected
from streams.envelope import START, Envelope
from streams.log import EventLog

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "2"))
PAUSE_SECONDS = 0.2
BATCHES = {"BATCH_IDLE_TIMEOUT_SECONDS": "1", "BATCH_WINDOW_SECONDS": "2"}
pytestmark = pytest.mark.timeout(120 + 6 * OUTAGE_SECONDS)


@dataclass
class Arriving:
    """Cameras that go on sending pictures, whatever happens."""

    installation: Installation
    dropped: list[Path] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def pictures(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            number = len(self.dropped)
            camera = f"Camera {number % 3}"
            self.dropped.append(self.installation.drop(camera, f"{number}.jpg", jpeg(number)))
            await asyncio.sleep(PAUSE_SECONDS)

    async def next_is_assessed(self) -> None:
        """A picture that is sent from now on goes the whole way."""
        count = len(self.dropped)
        await eventually(lambda: len(self.dropped) > count)
        await _assessed(self.installation, self.dropped[count])

    async def all_are_assessed(self) -> None:
        """Every file that was sent is in this one state, and there is no other file."""

        async def assessed() -> bool:
            counted = await asyncio.to_thread(self.installation.get, "/api/system/stats")
            return bool(counted["files"] == {"assessed": len(self.dropped)})

        await eventually(assessed, seconds=60)


async def _assessed(installation: Installation, path: Path) -> None:
    async def done() -> bool:
        try:
            return bool((await file_of(installation, path))["state"] == "assessed")
        except urllib.error.HTTPError as error:
            error.close()
            return False

    await eventually(done, seconds=60)


async def health(installation: Installation) -> Any:
    async with (
        ClientSession() as session,
        session.get(f"{installation.base_url}/api/system/health") as response,
    ):
        return await response.json()


async def unhealthy(installation: Installation, service: str) -> str:
    """Return what health says of a service that went away; the other one stays healthy."""
    told: Any = None

    async def said() -> bool:
        nonlocal told
        told = await health(installation)
        return bool(told["services"][service]["status"] == "unhealthy")

    await eventually(said)
    assert told["status"] == "unhealthy"
    other = {"redis": "database", "database": "redis"}[service]
    assert told["services"][other]["status"] == "healthy"
    return str(told["services"][service]["message"])


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Freeze a process and its children: connections stay open and nobody answers."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def entries(url: str, stream: str) -> list[Envelope]:
    log = await EventLog.open(url)
    try:
        found: list[Envelope] = []
        for partition in range(log.partitions):
            found += await log.read(stream, partition, START, 100_000)
        return found
    finally:
        await log.close()


async def test_services_that_go_away_lose_and_double_nothing(
    private_valkey: PrivateValkey, private_postgres: PrivatePostgres, state_folder: Path
) -> None:
    services = {"REDIS_URL": private_valkey.url, "DATABASE_URL": private_postgres.url}
    folder = state_folder / "up"
    folder.mkdir()
    async with instant_detector() as detector:
        with installed(folder, RTDETR_URL=detector.url, **BATCHES, **services) as installation:
            await asyncio.to_thread(installation.start)
            pids = installation.pids
            arriving = Arriving(installation)
            async with arriving.pictures():
                await arriving.next_is_assessed()
                await _redis_is_away(installation, private_valkey)
                await arriving.next_is_assessed()
                await _database_is_away(installation, private_postgres)
                await arriving.next_is_assessed()
                with stopped(private_valkey.pid), stopped(private_postgres.pid):
                    await asyncio.sleep(OUTAGE_SECONDS)
                await arriving.next_is_assessed()
            await arriving.all_are_assessed()
            await _nothing_is_lost_or_twice(private_valkey.url, arriving)
            assert installation.pids == pids
            assert "starting it again" not in installation.said()
            assert await asyncio.to_thread(installation.stop) == 0


async def _redis_is_away(installation: Installation, valkey: PrivateValkey) -> None:
    """What is known can still be asked for; pictures wait in their folders, and it is said."""
    valkey.kill()
    message = await unhealthy(installation, "redis")
    assert "Redis" in message
    assert installation.get("/api/events")["count"] > 0
    await asyncio.sleep(OUTAGE_SECONDS)
    assert "files wait in their folders until it is back" in _log(installation)
    valkey.start()


def _log(installation: Installation) -> str:
    return Path(installation.settings["LOG_FILE_PATH"]).read_text()


async def _database_is_away(installation: Installation, postgres: PrivatePostgres) -> None:
    """Pictures still become events, and clients are told of them at once."""
    postgres.stop()
    message = await unhealthy(installation, "database")
    assert "PostgreSQL" in message
    async with (
        ClientSession() as session,
        session.ws_connect(f"{installation.base_url}/ws/events") as socket,
    ):
        while (await socket.receive_json(timeout=20))["type"] != "event":
            pass
        async with session.get(f"{installation.base_url}/api/events") as response:
            assert response.status == 503
            assert "PostgreSQL" in (await response.json())["detail"]
    await asyncio.sleep(OUTAGE_SECONDS)
    postgres.start()


async def _nothing_is_lost_or_twice(url: str, arriving: Arriving) -> None:
    received = [e.event for e in await entries(url, "files")]
    pictures = [event.picture_id for event in received if isinstance(event, ImageReceived)]
    assert len(pictures) == len(received) == len({*pictures}) == len(arriving.dropped)
    detected = [e.event for e in await entries(url, "detections")]
    assert sorted(pictures) == sorted(
        event.picture_id for event in detected if isinstance(event, ObjectsDetected)
    )
    told = Counter(envelope.id for envelope in await entries(url, "assessments"))
    assert told.most_common(1)[0][1] == 1
    assert await entries(url, "parked") == []


async def test_a_full_disk_is_waited_out(state_folder: Path) -> None:
    """The disk of the embedded servers fills up, with a tmpfs in its place, and is freed again."""
    folder = state_folder / "small"
    folder.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs", str(folder)]
    if (await asyncio.to_thread(subprocess.run, command, capture_output=True)).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        async with instant_detector() as detector:
            with installed(folder, RTDETR_URL=detector.url, **BATCHES) as installation:
                installation.cameras = state_folder / "cameras"
                await asyncio.to_thread(installation.start)
                await _through_a_full_disk(installation, folder / "filler")
                assert await asyncio.to_thread(installation.stop) == 0
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(folder)], check=True)


async def _through_a_full_disk(installation: Installation, filler: Path) -> None:
    arriving = Arriving(installation)
    async with arriving.pictures():
        await arriving.next_is_assessed()
        await asyncio.to_thread(_fill, filler)
        assert shutil.disk_usage(filler.parent).free == 0
        message = await unhealthy(installation, "redis")
        assert "No space left on device" in message
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(filler.unlink)
        await arriving.next_is_assessed()
    await arriving.all_are_assessed()


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
