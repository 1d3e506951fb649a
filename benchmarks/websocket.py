"""1,000 WebSocket clients and 50 messages a second: how late they come, and what that takes.

The API runs as `hsi api` does, in a process of its own; the clients are another process, this one
appends the events. An event's time counts from just before it is appended to the log until a
client has read it. A second round has clients beside the others that never read. With --full
rounds are longer, and a third one opens 10,000 connections while a hundred clients are told.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.roles import free_port
from benchmarks.stock import FACTS, SIGNALS
from benchmarks.support import servers
from benchmarks.websocket_clients import frames
from domain import ids
from domain.events import RiskAssessed
from projections.migrate import migrate
from runtime.embedded import EmbeddedServers
from streams.envelope import NewEvent
from streams.log import EventLog

CLIENTS = 1000
STUCK = 10
FEW_CLIENTS = 100
FLOOD = 10_000
PER_S = 50.0
CAMERAS = 8
START_SECONDS = 60.0
MOST_MORE = 1.5
"""Times the 99th percentile that it may be beside clients that never read: two rounds differ."""

Figures = dict[str, float]


def run(*, full: bool) -> Figures:
    """Return how late messages come, without and with clients that never read."""
    with servers(postgres=True) as running:
        assert running.database_url is not None
        migrate(running.database_url)
        return asyncio.run(_measure(running, full=full))


@dataclass(frozen=True, slots=True)
class Api:
    """The process that is measured, and the log that it follows."""

    port: int
    process: int
    log: EventLog

    def busy_seconds(self) -> float:
        """Return the processor time that it has taken."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mib(self) -> float:
        """Return its resident memory, shared pages and all."""
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    async def fell_behind(self) -> int:
        """Return how often a client was too slow, so that it went on from the log."""
        url = f"http://127.0.0.1:{self.port}/api/system/health/websocket"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            channels = (await response.json())["channels"]
            return int(channels["events"]["fell_behind"])


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of messages came to."""

    late_ms: NDArray[np.float64]
    core_percent: float
    mib: float

    def percentile(self, percent: float) -> float:
        """Return a percentile of the delivery times in milliseconds."""
        return round(float(np.percentile(self.late_ms, percent)), 1)


async def _measure(running: EmbeddedServers, *, full: bool) -> Figures:
    seconds = 60.0 if full else 10.0
    async with _api(running) as api:
        alone = await _round(api, CLIENTS, seconds)
        beside = await _round(api, CLIENTS, seconds, stuck=STUCK)
        figures = {
            "clients": CLIENTS,
            "messages_per_s": PER_S,
            "delivered": len(alone.late_ms) + len(beside.late_ms),
            "delivery_p50_ms": alone.percentile(50),
            "delivery_p99_ms": alone.percentile(99),
            "delivery_max_ms": alone.percentile(100),
            "stuck_clients": STUCK,
            "stuck_fell_behind": await api.fell_behind(),
            "beside_stuck_p50_ms": beside.percentile(50),
            "beside_stuck_p99_ms": beside.percentile(99),
            "stuck_client_ok": beside.percentile(99) <= MOST_MORE * alone.percentile(99),
            "mib": round(max(alone.mib, beside.mib), 1),
            "core_percent": round(alone.core_percent, 1),
        }
        if full:
            flood = asyncio.create_task(_flood(api))
            told = await _round(api, FEW_CLIENTS, seconds)
            figures |= await flood
            figures["flood_delivery_p99_ms"] = told.percentile(99)
    return figures


async def _flood(api: Api) -> Figures:
    """Open very many connections a moment after the round has begun."""
    await asyncio.sleep(5.0)
    flood = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.websocket_flood", str(api.port), str(FLOOD)),
        stdout=subprocess.PIPE,
    )
    said, _ = await flood.communicate()
    figures: Figures = json.loads(said)
    return figures


async def _round(api: Api, count: int, seconds: float, *, stuck: int = 0) -> Round:
    """Let clients connect, append events for a while, and see when each client had each."""
    with tempfile.TemporaryDirectory(prefix="hsi-ws-", dir="/tmp") as folder:
        file = Path(folder) / "received.npz"
        clients = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.websocket_clients"),
            *(str(api.port), str(count), str(stuck), str(file)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert clients.stdin is not None
        assert clients.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            if await clients.stdout.readline() != b"ready\n":
                raise RuntimeError("the clients could not connect")
        busy, began = api.busy_seconds(), time.perf_counter()
        sent = await _append(api.log, seconds)
        core = (api.busy_seconds() - busy) / (time.perf_counter() - began)
        mib = api.mib()
        clients.stdin.write(b"stop\n")
        await clients.stdin.drain()
        async with asyncio.timeout(START_SECONDS):
            await clients.wait()
        with np.load(file) as received:
            late = _late_ms(received, sent)
    return Round(late, 100 * core, mib)


async def _append(log: EventLog, seconds: float) -> dict[str, int]:
    """Append events at a fixed rate; return when each was appended, by its id."""
    sent: dict[str, int] = {}
    begin, began = time.monotonic(), datetime.now(UTC)
    for number in range(int(seconds * PER_S)):
        await asyncio.sleep(max(0.0, begin + number / PER_S - time.monotonic()))
        event = _assessed(number, began)
        sent[event.event_id] = time.monotonic_ns()
        await log.append(NewEvent(id=event.event_id, event=event, correlation_id=event.event_id))
    return sent


def _assessed(number: int, began: datetime) -> RiskAssessed:
    """Return the rules' assessment of the `number`-th picture since a moment."""
    camera, at = f"camera_{number % CAMERAS}", began + timedelta(seconds=number)
    picture = ids.picture_id(camera, f"{number:064x}", at)
    batch = ids.batch_id(camera, picture)
    return RiskAssessed(
        camera_id=camera,
        event_id=ids.event_id(batch),
        batch_id=batch,
        started_at=at,
        ended_at=at,
        stage="final",
        score=45,
        level="medium",
        floor=10,
        signals=tuple(SIGNALS),
        summary=f"Somebody at the door of {camera}, as seen in picture {number}",
        reasoning="One person walks up to the door, waits there and looks at the lock.",
        rules_version="1",
        facts=FACTS,
        picture_ids=(picture,),
        close_reason="idle",
    )


class _Data(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    data: _Data


def _late_ms(received: "np.lib.npyio.NpzFile", sent: dict[str, int]) -> NDArray[np.float64]:
    """Return the delivery time of every message at every client."""
    if len(set(received["checksums"].tolist())) != 1:
        raise RuntimeError("the clients were not all told the same")
    ends: list[int] = []
    appended: list[int] = []
    decode = msgspec.json.Decoder(_Message).decode
    for end, payload in frames(received["first"].tobytes()):
        ends.append(end)
        appended.append(sent[decode(payload).data.id])
    if len(appended) != len(sent):
        raise RuntimeError(f"{len(appended)} of {len(sent)} messages came")
    late = []
    starts = np.concatenate([[0], np.cumsum(received["lengths"])])
    times, totals = received["times"], received["totals"]
    for start, stop in pairwise(starts):
        at = np.searchsorted(totals[start:stop], ends)
        late.append((times[start:stop][at] - np.array(appended)) / 1e6)
    return np.concatenate(late)


@contextlib.asynccontextmanager
async def _api(running: EmbeddedServers) -> AsyncIterator[Api]:
    """Run the API."""
    assert running.database_url is not None
    assert running.redis_url is not None
    folder = Path(tempfile.mkdtemp(prefix="hsi-ws-api-", dir="/tmp"))
    ready, port = folder / "ready", free_port()
    environ = {
        **os.environ,
        "REDIS_URL": running.redis_url,
        "DATABASE_URL": running.database_url,
        "API_HOST": "127.0.0.1",
        "API_PORT": str(port),
        "RATE_LIMIT_ENABLED": "false",
        "FOSCAM_BASE_PATH": str(folder),
        "HSI_STATE_DIR": str(folder / "state"),
        "LOG_FILE_PATH": str(folder / "log.jsonl"),
        "HSI_READY_FILE": str(ready),
    }
    with (folder / "errors").open("w") as errors:
        api = subprocess.Popen([sys.executable, "-m", "hsi", "api"], env=environ, stderr=errors)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not ready.exists():
                await asyncio.sleep(0.05)
        log = await EventLog.open(running.redis_url)
        try:
            yield Api(port, api.pid, log)
        finally:
            await log.close()
    finally:
        api.send_signal(signal.SIGTERM)
        await asyncio.to_thread(api.wait, 60)
        shutil.rmtree(folder, ignore_errors=True)
