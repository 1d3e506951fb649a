"""From the log into the read models: embedded Valkey and PostgreSQL, one projecting process.

The log holds image.received and objects.detected (two boxes that count) in equal parts. Three
runs, each on a fresh database: the ledger alone (the read model that takes both kinds of event,
a row an event), the detections alone (two rows an event), and every read model that hears these
streams together, as `hsi agents project` runs them; then the events are counted once, however
many read models take them.
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import psycopg

from benchmarks.support import detected, median, new, picture, servers
from projections.cameras import Cameras
from projections.database import open_pool
from projections.detections import Detections
from projections.ledger import Ledger
from projections.migrate import migrate
from projections.read_model import ReadModel
from projections.runner import Projector
from streams.envelope import START
from streams.log import EventLog

ROUNDS = 3
FILL_RUN = 2_000


def run(*, full: bool) -> dict[str, float]:
    """Return events a second (medians of three rounds)."""
    pictures = 100_000 if full else 15_000
    with servers(postgres=True) as embedded:
        assert embedded.redis_url is not None
        assert embedded.database_url is not None
        return asyncio.run(_measure(embedded.redis_url, embedded.database_url, pictures))


async def _measure(redis_url: str, database_url: str, pictures: int) -> dict[str, float]:
    log = await EventLog.open(redis_url)
    try:
        await _fill(log, pictures)
        ledger, detections, all_models = [], [], []
        for _ in range(ROUNDS):
            ledger.append(2 * pictures / await _seconds(log, database_url, [Ledger()]))
            detections.append(pictures / await _seconds(log, database_url, [Detections()]))
            together: list[ReadModel] = [Ledger(), Detections(), Cameras()]
            all_models.append(2 * pictures / await _seconds(log, database_url, together))
        return {
            "project_events_per_s": median(ledger),
            "detections_events_per_s": median(detections),
            "all_read_models_events_per_s": median(all_models),
            "follow_and_decode_per_s": round(pictures / await _follow(log)),
            "events": 2 * pictures,
        }
    finally:
        await log.close()


async def _fill(log: EventLog, pictures: int) -> None:
    for start in range(0, pictures, FILL_RUN):
        numbers = range(start, min(start + FILL_RUN, pictures))
        await log.append_all([new(picture(number)) for number in numbers])
        await log.append_all([new(detected(number)) for number in numbers])


async def _seconds(log: EventLog, database_url: str, models: Sequence[ReadModel]) -> float:
    """Project the whole log into a fresh database; return how long it took."""
    url = _fresh(database_url)
    await asyncio.to_thread(migrate, url)
    pool = await open_pool(url, name="bench", max_size=6, rebuildable=True)
    try:
        began = time.perf_counter()
        await asyncio.gather(*[_project(Projector(log, pool, model)) for model in models])
        return time.perf_counter() - began
    finally:
        await pool.close()


async def _project(projector: Projector) -> None:
    while await projector.run_once():
        pass


def _fresh(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        connection.execute("CREATE DATABASE bench")
    parts = urlsplit(database_url)
    return urlunsplit(parts._replace(path="/bench"))


async def _follow(log: EventLog) -> float:
    """Return the seconds that reading and decoding one stream alone takes."""
    cursors = {("files", partition): START for partition in range(log.partitions)}
    began = time.perf_counter()
    while envelopes := await log.follow(cursors, count=500, block_ms=0):
        for envelope in envelopes:
            cursors[envelope.stream, envelope.partition] = envelope.position
    return time.perf_counter() - began
