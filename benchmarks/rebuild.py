"""A rebuild of the read models beside the live ones, against a bare COPY of the same rows.

The log holds objects.detected with two boxes that count: one event makes one row in `pictures`
and two in `detections`. Both read models are rebuilt together, as `hsi projections rebuild` does
it; each event counts once.

`rebuild_events_per_s`: from the log into the new tables, before they get keys and indexes, so
that it is what the peer does too: a bare COPY of the text of the very rows that the rebuild made,
ready in memory, into fresh tables of the same columns. `with_indexes_events_per_s` counts keys and
indexes in, `whole_events_per_s` also the comparison with the live tables and the switch.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks.support import detected, median, new, servers
from projections.database import Pool, open_pool
from projections.detections import Detections
from projections.ledger import Ledger
from projections.migrate import migrate
from projections.read_model import ReadModel
from projections.rebuild import Progress, Rebuild
from projections.runner import Projector
from streams.history import History
from streams.log import EventLog

ROUNDS = 3
FILL_RUN = 400
PIECE = 256 * 1024


def run(*, full: bool) -> dict[str, float]:
    """Return events a second (medians of three rounds; with --full one round of a million)."""
    events, rounds = (1_000_000, 1) if full else (60_000, ROUNDS)
    with servers(postgres=True) as embedded:
        assert embedded.redis_url is not None
        assert embedded.database_url is not None
        return asyncio.run(_measure(embedded.redis_url, embedded.database_url, events, rounds))


@dataclass(frozen=True)
class _Round:
    fill: float
    fill_cpu: float
    """Processor seconds of this process, whatever else the machine does."""
    finish: float
    whole: float
    copy: float


async def _measure(
    redis_url: str, database_url: str, events: int, rounds: int
) -> dict[str, float]:
    log = await EventLog.open(redis_url)
    url = _fresh(database_url)
    await asyncio.to_thread(migrate, url)
    pool = await open_pool(url, name="bench", max_size=8, rebuildable=True)
    try:
        await _fill(log, events)
        models: list[ReadModel] = [Ledger(), Detections()]
        for model in models:
            projector = Projector(log, pool, model)
            while await projector.run_once():
                pass
        measured = [await _round(log, pool, url, models) for _ in range(rounds)]
    finally:
        await pool.close()
        await log.close()
    ratios = [each.copy / each.fill for each in measured]
    return {
        "rebuild_events_per_s": median([events / each.fill for each in measured]),
        "with_indexes_events_per_s": median(
            [events / (each.fill + each.finish) for each in measured]
        ),
        "whole_events_per_s": median([events / each.whole for each in measured]),
        "copy_events_per_s": median([events / each.copy for each in measured]),
        "ratio_copy": round(statistics.median(ratios), 3),
        "client_cpu_us_per_event": round(
            statistics.median(1e6 * each.fill_cpu / events for each in measured), 1
        ),
        "events": events,
    }


async def _fill(log: EventLog, events: int) -> None:
    for start in range(0, events, FILL_RUN):
        numbers = range(start, min(start + FILL_RUN, events))
        await log.append_all([new(detected(number)) for number in numbers])


async def _round(log: EventLog, pool: Pool, url: str, models: list[ReadModel]) -> _Round:
    stages: list[tuple[str, float, float]] = []

    def note(progress: Progress) -> None:
        stages.append((progress.stage, time.perf_counter(), time.process_time()))

    began, began_cpu = time.perf_counter(), time.process_time()
    await Rebuild(log, History(log), pool, note).run(models)
    ended = time.perf_counter()
    filled, cpu = next((at, cpu) for stage, at, cpu in stages if stage == "finishing")
    finished = next(at for stage, at, _ in stages if stage == "catching up")
    copy = await asyncio.to_thread(_bare_copy, url, models)
    return _Round(
        fill=filled - began,
        fill_cpu=cpu - began_cpu,
        finish=finished - filled,
        whole=ended - began,
        copy=copy,
    )


def _bare_copy(url: str, models: list[ReadModel]) -> float:
    """Copy the live rows, as text ready in memory, into fresh tables; return the seconds."""
    seconds = 0.0
    with psycopg.connect(url, options="-c synchronous_commit=off") as connection:
        for table in [table for model in models for table in model.tables]:
            here, there = sql.Identifier(table), sql.Identifier(f"bare_{table}")
            out = sql.SQL("COPY {} TO STDOUT").format(here)
            with connection.cursor().copy(out) as copy:
                text = b"".join(copy)
            connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(there, here))
            connection.commit()
            began = time.perf_counter()
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(there)) as copy:
                for start in range(0, len(text), PIECE):
                    copy.write(text[start : start + PIECE])
            connection.commit()
            seconds += time.perf_counter() - began
            connection.execute(sql.SQL("DROP TABLE {}").format(there))
            connection.commit()
    return seconds


def _fresh(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench")
    return urlunsplit(urlsplit(database_url)._replace(path="/bench"))
