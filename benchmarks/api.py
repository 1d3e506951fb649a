"""REST over a stock of events: lists with filters at any depth, one event, full-text search.

The API runs as `hsi api` does, in a process of its own; this process is the load. Its peer is a
bare aiohttp handler that makes the same single query for one event and sends the answer as
PostgreSQL made it. Both are asked in turns of a second or two, so that other work on the machine
meets both; the ratio is the median of the turns'.
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
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

from benchmarks import stock
from benchmarks.load import Load
from runtime.embedded import EmbeddedServers

LIST_PER_S = 200.0
SEARCH_PER_S = 20.0
CONNECTIONS = 8
TURNS = 6
START_SECONDS = 60.0
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
        return asyncio.run(_measure(servers, events, seconds=20.0 if full else 6.0))


async def _measure(servers: EmbeddedServers, events: int, *, seconds: float) -> Figures:
    asks = _Asks(events)
    async with _processes(servers) as (port, bare):
        async with Load("127.0.0.1", port, CONNECTIONS) as api:
            await api.steadily(asks.page, LIST_PER_S / 4, seconds / 2)
            lists = await api.steadily(asks.page, LIST_PER_S, seconds)
            search = await api.steadily(asks.search, SEARCH_PER_S, seconds)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(TURNS):
            for rates, to in ((ours, port), (theirs, bare)):
                async with Load("127.0.0.1", to, CONNECTIONS) as load:
                    answers = await load.saturate(asks.one, seconds / TURNS)
                    rates.append(len(answers.seconds) / (seconds / TURNS))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "events": events,
        "list_per_s": LIST_PER_S,
        "list_p50_ms": lists.percentile_ms(50),
        "list_p99_ms": lists.percentile_ms(99),
        "search_p95_ms": search.percentile_ms(95),
        "failed": lists.failed + search.failed,
        "get_per_s": round(max(ours)),
        "bare_per_s": round(max(theirs)),
        "ratio_bare": round(statistics.median(ratios), 2),
    }


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
async def _processes(servers: EmbeddedServers) -> AsyncIterator[tuple[int, int]]:
    """Run the API and its peer; give their ports."""
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
        yield port, bare
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
