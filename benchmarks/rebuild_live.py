"""Reads through the API while `hsi projections rebuild all` runs and live events keep coming.

The roles run as in `hsi up`: one projecting process, one API, embedded Valkey and PostgreSQL. The
log holds image.received and objects.detected (two boxes that count) in equal parts. Twenty reads
a second are due at fixed times, and each one's time counts from when it was due, so that waiting
in line is seen. A read fails when it is not answered by 200 and all that it asked for.

Beside them `wrk` reads the same paths over two connections, 20 times a second at most, before and
while everything is rebuilt, where it is found ($WRK or PATH): `live_wrk_…`. What it prints goes to
standard error.
"""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from agents.project import read_models
from benchmarks import wrk
from benchmarks.roles import free_port, hsi, roles
from benchmarks.support import detected, new, picture, servers
from domain.events import CameraRegistered
from projections.database import open_pool
from projections.migrate import migrate
from projections.runner import Projector
from streams.envelope import NewEvent
from streams.log import EventLog

READS_PER_S = 20
PICTURES_PER_S = 5
"""Each is two events."""

BASE_SECONDS = 30.0
CAMERAS = 8
FILL_RUN = 400
ROLES = {"project": ["agents", "project"], "api": ["api"]}

Figures = dict[str, float]


def run(pictures: int) -> Figures:
    """Return what readers saw before and while everything was rebuilt."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-rebuild-", dir="/tmp"))
    try:
        with servers(postgres=True) as embedded:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            port = free_port()
            environ = {
                "REDIS_URL": embedded.redis_url,
                "DATABASE_URL": embedded.database_url,
                "API_PORT": str(port),
                "API_HOST": "127.0.0.1",
                "FOSCAM_BASE_PATH": str(folder / "cameras"),
                "HSI_STATE_DIR": str(folder / "state"),
                "LOG_FILE_PATH": str(folder / "log.jsonl"),
            }
            (folder / "cameras").mkdir()
            return asyncio.run(_measure(folder, environ, pictures))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path, environ: dict[str, str], pictures: int) -> Figures:
    program = wrk.find()
    log = await EventLog.open(environ["REDIS_URL"])
    try:
        await _fill(log, environ["DATABASE_URL"], pictures)
        url = f"http://127.0.0.1:{environ['API_PORT']}"
        async with roles(folder, environ, ROLES), aiohttp.ClientSession(url) as session:
            with _Load(log, pictures, session) as load:
                await load.warm()
                async with wrk.reading(program, url, load.paths) as wrk_base:
                    await load.read_while(asyncio.sleep(BASE_SECONDS))
                base, load.reads = load.reads, _Reads()
                async with wrk.reading(program, url, load.paths) as wrk_during:
                    began = time.perf_counter()
                    rebuilt = await load.read_while(_rebuild(environ))
                    seconds = time.perf_counter() - began
    finally:
        await log.close()
    events = 2 * (pictures + load.appended)
    before, during = base.percentile_ms(95), load.reads.percentile_ms(95)
    return {
        "live_log_events": events,
        "live_rebuild_all_seconds": round(seconds, 1),
        "live_rebuild_all_events_per_s": round(events / seconds),
        "live_read_models": rebuilt,
        "live_reads_during": len(load.reads.seconds),
        "live_failed_reads": base.failed + load.reads.failed,
        "live_read_p95_base_ms": round(before, 1),
        "live_read_p95_rebuild_ms": round(during, 1),
        "live_read_p99_rebuild_ms": round(load.reads.percentile_ms(99), 1),
        "ratio_read_p95": round(during / before, 2),
    } | (_seen_by_wrk(wrk_base, wrk_during) if program else {})


def _seen_by_wrk(base: wrk.Reads, during: wrk.Reads) -> Figures:
    return {
        "live_wrk_reads_during": during.reads,
        "live_wrk_failed_reads": base.failed + during.failed,
        "live_wrk_p95_base_ms": base.p95_ms,
        "live_wrk_p95_rebuild_ms": during.p95_ms,
        "live_wrk_p99_rebuild_ms": during.p99_ms,
        "ratio_wrk_p95": round(during.p95_ms / base.p95_ms, 2),
    }


async def _fill(log: EventLog, database_url: str, pictures: int) -> None:
    """Append the past and let every read model apply it."""
    for number in range(CAMERAS):
        camera = f"camera_{number}"
        event = CameraRegistered(camera_id=camera, name=camera, folder=camera, source="api")
        await log.append_all([NewEvent(id=camera, event=event, correlation_id=camera)])
    for start in range(0, pictures, FILL_RUN):
        numbers = range(start, min(start + FILL_RUN, pictures))
        await log.append_all([new(picture(number)) for number in numbers])
        await log.append_all([new(detected(number)) for number in numbers])
    await asyncio.to_thread(migrate, database_url)
    pool = await open_pool(database_url, name="bench", max_size=8, rebuildable=True)
    try:
        await asyncio.gather(*[_catch_up(Projector(log, pool, model)) for model in read_models()])
    finally:
        await pool.close()


async def _catch_up(projector: Projector) -> None:
    while await projector.run_once():
        pass


async def _rebuild(environ: dict[str, str]) -> int:
    """Run the command as a person does; return how many read models it has switched."""
    process = await asyncio.create_subprocess_exec(
        *hsi("projections", "rebuild", "all", "--json"),
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"`hsi projections rebuild all` ended with {process.returncode}")
    return len(json.loads(output)["rebuilt"])


@dataclass
class _Reads:
    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(np.array(self.seconds), percent)) * 1000


class _Load:
    """Live events and reads at a fixed rate, as long as the block lasts."""

    def __init__(self, log: EventLog, pictures: int, session: aiohttp.ClientSession) -> None:
        self._log = log
        self._session = session
        self._first = pictures
        self._live: asyncio.Task[None] | None = None
        self.appended = 0
        self.reads = _Reads()
        known = picture(pictures // 2)
        self._asked = (
            ("/api/detections?limit=50", 50),
            (f"/api/detections?camera_id={known.camera_id}&limit=50", 50),
            ("/api/cameras", CAMERAS),
            (f"/api/detections/{known.picture_id}.0", None),
            ("/api/detections?object_type=person&limit=20", 20),
            (f"/api/files/{known.file_id}", None),
        )
        self.paths = [path for path, _ in self._asked]

    def __enter__(self) -> "_Load":
        self._live = asyncio.create_task(self._append())
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.cancel()

    async def warm(self) -> None:
        """Read everything a few times without counting: plans are made, pages are read."""
        for number in range(20 * len(self._asked)):
            await self._read(number, time.perf_counter())
        self.reads = _Reads()

    async def read_while(self, work: Coroutine[object, object, int | None]) -> int:
        """Read at the fixed rate until the work has ended, and return what it answers."""
        running = asyncio.create_task(work)
        reading: list[asyncio.Task[None]] = []
        began = time.perf_counter()
        while not running.done():
            due = began + len(reading) / READS_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            reading.append(asyncio.create_task(self._read(len(reading), due)))
        await asyncio.gather(*reading)
        return await running or 0

    async def _read(self, number: int, due: float) -> None:
        path, items = self._asked[number % len(self._asked)]
        try:
            async with self._session.get(path) as answer:
                body = await answer.json()
                whole = answer.status == 200 and (items is None or len(_items(body)) == items)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            whole = False
        self.reads.seconds.append(time.perf_counter() - due)
        self.reads.failed += not whole

    async def _append(self) -> None:
        began = time.perf_counter()
        while True:
            await asyncio.sleep(
                max(0.0, began + self.appended / PICTURES_PER_S - time.perf_counter())
            )
            number = self._first + self.appended
            await self._log.append_all([new(picture(number)), new(detected(number))])
            self.appended += 1


def _items(body: object) -> list[object]:
    if isinstance(body, dict):
        found = next((value for value in body.values() if isinstance(value, list)), [])
        return list(found)
    return list(body) if isinstance(body, list) else []
