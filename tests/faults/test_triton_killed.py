"""Kill -9 of Triton's backend process and of tritonserver, under the real detect role.

The role runs as a process of its own over a real log; pictures keep arriving all the time. The
model is one that costs next to nothing, on a real server.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.instant_model import MODEL, lay_out
from support.triton import TritonServer, installed
from support.watching import jpeg

from domain.events import ImageReceived, ObjectsDetected
from streams.envelope import START, Envelope
from streams.log import EventLog

PAUSE_SECONDS = 0.1
NOTICED_SECONDS = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    lay_out(folder / "models", {1: "0.6"})
    options = ["--model-control-mode=explicit", f"--load-model={MODEL}"]
    server = TritonServer(installed(), folder, folder / "models", options)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@contextlib.contextmanager
def roles(folder: Path, redis_url: str, rtdetr_url: str) -> Iterator[Path]:
    """Run watch and detect as one process; answer the folder of a camera that they look at."""
    camera = folder / "cameras" / "porch"
    camera.mkdir(parents=True)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    settings = {
        "REDIS_URL": redis_url,
        "RTDETR_URL": rtdetr_url,
        "FOSCAM_BASE_PATH": str(camera.parent),
        "HSI_STATE_DIR": str(folder / "state"),
        "LOG_FILE_PATH": str(folder / "roles.jsonl"),
        "CAMERA_TIMEZONE": "UTC",
    }
    with (folder / "roles.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hsi", "agents", "watch", "detect"],
            env={**kept, **settings},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield camera
        assert process.poll() is None, (folder / "roles.out").read_text()[-2000:]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def entries(log: EventLog, stream: str) -> list[Envelope]:
    found: list[Envelope] = []
    for partition in range(log.partitions):
        found += await log.read(stream, partition, START, 100_000)
    return found


class Arriving:
    """A camera that goes on sending pictures, whatever happens."""

    def __init__(self, camera: Path, log: EventLog) -> None:
        self._camera = camera
        self._log = log
        self.sent = 0

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
            draft = self._camera / f".{self.sent}.tmp"
            draft.write_bytes(jpeg(self.sent))
            draft.rename(self._camera / f"{self.sent}.jpg")
            self.sent += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def seen(self) -> int:
        """Return how many pictures have been looked at."""
        return len(await entries(self._log, "detections"))

    async def go_on(self, more: int = 5) -> None:
        """Wait until so many more pictures than now have been looked at."""
        wanted = await self.seen() + more
        async with asyncio.timeout(60):
            while await self.seen() < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def are_all_seen(self) -> None:
        async with asyncio.timeout(60):
            while await self.seen() < self.sent:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def stub_of(server: TritonServer) -> psutil.Process:
    """Return the process in which Triton runs the model."""
    (stub,) = stubs(server)
    return stub


def stubs(server: TritonServer) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and "stub" in child.name():
                found.append(child)
    return found


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; return how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.slow
async def test_kills_of_the_backend_and_of_the_server_lose_and_double_nothing(
    server: TritonServer, valkey_url: str, tmp_path: Path
) -> None:
    log = await EventLog.open(valkey_url)
    try:
        with roles(tmp_path, valkey_url, server.url) as camera:
            arriving = Arriving(camera, log)
            async with arriving.pictures():
                await arriving.go_on()
                # Triton goes on calling the model ready; nobody but the role repairs it.
                stub_of(server).kill()
                await arriving.go_on()
                stub_of(server).kill()
                await asyncio.sleep(0.2)
                await asyncio.to_thread(server.stop, signal.SIGKILL)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.start)
                await arriving.go_on()
            await arriving.are_all_seen()
            received = [e.event for e in await entries(log, "files")]
            detected = [e.event for e in await entries(log, "detections")]
            pictures = {e.picture_id for e in received if isinstance(e, ImageReceived)}
            answers = [e for e in detected if isinstance(e, ObjectsDetected)]
            assert len(received) == len(pictures) == arriving.sent > 20
            assert sorted(pictures) == sorted(e.picture_id for e in answers)
            assert all([box.label for box in e.boxes] == ["dog"] for e in answers)
            assert {e.model_version for e in answers} == {"1:instant"}
            assert await entries(log, "parked") == []
            await _noticed_while_nothing_arrives(server, arriving)
    finally:
        await log.close()


async def _noticed_while_nothing_arrives(server: TritonServer, arriving: Arriving) -> None:
    """No picture meets the dead process: the role's own inference does."""
    killed = stub_of(server)
    killed.kill()

    def another_runs() -> bool:
        found = stubs(server)
        return len(found) == 1 and found[0].pid != killed.pid

    # Noticing, waiting for others to repair it (a second at most), unloading, loading anew.
    await until(another_runs, NOTICED_SECONDS + 10)
    async with arriving.pictures():
        await arriving.go_on(3)
