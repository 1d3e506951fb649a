"""REST over a stock of events: lists with filters at any depth, one event, full-text search.

The API runs as `hsi api` does, in a process of its own; this process is the load. Its peer is a
bare aiohttp handler that makes the same single query for one event and sends the answer as
PostgreSQL made it. Both are asked in turns of a second or two, so that other work on the machine
meets both; the ratio is the median of the turns'. `…_cpu_us` is what a request takes of the
processor time of the process that serves it, PostgreSQL's left out.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

import psutil
import psycopg

from benchmarks import stock
from benchmarks.load import Load
from runtime.embedded import EmbeddedServers

LIST_PER_S = 200.0
SEARCH_PER_S = 20.0
CONNECTIONS = 8
TURNS = 6
START_SECONDS = 60.0
READ_BYTES = 1024 * 1024
WORDS = (
    "person",
    "somebody",
    "door",
    '"at the door"',
    "dog or cat",
    "somebody -garage",
    "bicycle",
)

Figures = dict[str, float]


def run(*, full: bool) -> Figures:
    """Return waiting times of lists and searches, and requests a second for one event."""
    events = 1_000_000 if full else 30_000
    with stock.stocked(events) as servers:
        _read_once(servers)
        return asyncio.run(_measure(servers, events, seconds=20.0 if full else 6.0))


def _read_once(servers: EmbeddedServers) -> None:
    """Read the tables' files, so that the system has them in memory: as where it runs for long."""
    assert servers.database_url is not None
    with psycopg.connect(servers.database_url) as connection:
        found = connection.execute("SHOW data_directory").fetchone()
    assert found is not None
    for path in Path(found[0], "base").rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(READ_BYTES):
                    pass


async def _measure(servers: EmbeddedServers, events: int, *, seconds: float) -> Figures:
    asks = _Asks(events)
    async with _processes(servers) as (api, bare):
        async with Load("127.0.0.1", api.port, CONNECTIONS) as load:
            await load.steadily(asks.page, LIST_PER_S / 4, seconds / 2)
            used = api.used_seconds()
            lists = await load.steadily(asks.page, LIST_PER_S, seconds)
            page_seconds = (api.used_seconds() - used) / len(lists.seconds)
            search = await load.steadily(asks.search, SEARCH_PER_S, seconds)
        turns = [
            [await _turn(served, asks, seconds / TURNS) for served in (api, bare)]
            for _ in range(TURNS)
        ]
    ours, theirs = zip(*turns, strict=True)
    return {
        "events": events,
        "list_per_s": LIST_PER_S,
        "list_p50_ms": lists.percentile_ms(50),
        "list_p99_ms": lists.percentile_ms(99),
        "list_cpu_us": round(page_seconds * 1e6),
        "search_p95_ms": search.percentile_ms(95),
        "failed": lists.failed
        + search.failed
        + sum(each.failed for turn in turns for each in turn),
        "get_per_s": round(max(each.per_s for each in ours)),
        "bare_per_s": round(max(each.per_s for each in theirs)),
        "ratio_bare": round(statistics.median(a.per_s / b.per_s for a, b in turns), 2),
        "get_cpu_us": round(statistics.median(each.cpu_us for each in ours)),
        "bare_cpu_us": round(statistics.median(each.cpu_us for each in theirs)),
    }


@dataclass(frozen=True)
class _Served:
    """A process that serves."""

    port: int
    process: psutil.Process

    def used_seconds(self) -> float:
        """Return its processor time."""
        times = self.process.cpu_times()
        used: float = times.user + times.system
        return used


@dataclass(frozen=True)
class _Turn:
    """What one process did while it was asked for single events as fast as it answers."""

    per_s: float
    cpu_us: float
    failed: int


async def _turn(served: _Served, asks: "_Asks", seconds: float) -> _Turn:
    used = served.used_seconds()
    async with Load("127.0.0.1", served.port, CONNECTIONS) as load:
        answers = await load.saturate(asks.one, seconds)
    count = len(answers.seconds)
    used = served.used_seconds() - used
    return _Turn(count / seconds, used / count * 1e6, answers.failed)


class _Asks:
    """Paths to ask for, drawn at random but the same in every run."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._random = random.Random(5)

    def one(self) -> str:
        """Return the path of any event."""
        return f"/api/events/{stock.event_id(self._random.randrange(self._events))}"

    def page(self) -> str:
        """Return the path of a page with any filters at any depth.

        What is filtered by is drawn from an event, as frequent as it is among the events.
        """
        draw = self._random
        values = stock.facts_of(draw.randrange(self._events))
        wanted = {name: value for name, value in values.items() if draw.random() < 0.3}
        if draw.random() < 0.3:
            wanted["start_date"] = f"{self._moment():%Y-%m-%dT%H:%M:%SZ}"
        if draw.random() < 0.7:
            wanted["cursor"] = f"{int(self._moment().timestamp()) * 1_000_000}~z"
        return f"/api/events?{urlencode({'limit': '50', **wanted})}"

    def search(self) -> str:
        """Return the path of a search."""
        return f"/api/events/search?{urlencode({'q': self._random.choice(WORDS), 'limit': '50'})}"

    def _moment(self) -> datetime:
        return stock.moment_of(self._random.randrange(self._events))


@contextlib.asynccontextmanager
async def _processes(servers: EmbeddedServers) -> AsyncIterator[tuple[_Served, _Served]]:
    """Run the API and its peer."""
    assert servers.database_url is not None
    assert servers.redis_url is not None
    folder = Path(tempfile.mkdtemp(prefix="hsi-api-", dir="/tmp"))
    port, bare = _free_port(), _free_port()
    environ = {
        **os.environ,
        "REDIS_URL": servers.redis_url,
        "DATABASE_URL": servers.database_url,
        "API_HOST": "127.0.0.1",
        "API_PORT": str(port),
        "RATE_LIMIT_ENABLED": "false",
        "FOSCAM_BASE_PATH": str(folder),
        "HSI_STATE_DIR": str(folder / "state"),
        "LOG_FILE_PATH": str(folder / "log.jsonl"),
    }
    commands = (
        ["-m", "hsi", "api"],
        ["-m", "benchmarks.bare_api", servers.database_url, str(bare)],
    )
    with (folder / "errors").open("w") as errors:
        children = [
            subprocess.Popen([sys.executable, *command], env=environ, stderr=errors)
            for command in commands
        ]
    try:
        for each in (port, bare):
            await _until_it_answers(each, lambda: (folder / "errors").read_text())
        ours, theirs = (psutil.Process(child.pid) for child in children)
        yield _Served(port, ours), _Served(bare, theirs)
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            await asyncio.to_thread(child.wait, 20)
        shutil.rmtree(folder, ignore_errors=True)


async def _until_it_answers(port: int, said: Callable[[], str]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            async with Load("127.0.0.1", port, 1) as load:
                answers = await load.saturate(lambda: f"/api/events/{stock.event_id(0)}", 0.01)
                if not answers.failed:
                    return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"nothing answers at port {port}: {said()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
