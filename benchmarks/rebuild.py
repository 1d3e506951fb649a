"""A rebuild of the read models beside the live ones, against a bare COPY of the same rows.

The log holds objects.detected with two boxes that count: one event makes one row in `pictures`
and two in `detections`. Both read models are rebuilt together, as `hsi projections rebuild` does
it; each event counts once.

`rebuild_events_per_s`: from the log into the new tables, before they get keys and indexes, so
that it is what the peer does too: a bare COPY of the very rows that the rebuild made, prebuilt in
memory, into fresh tables of the same columns (`ratio_copy`). A second, harder peer (`ratio_text`)
has not even to format them: their COPY text lies ready in memory. `with_indexes_events_per_s`
counts keys and indexes in, `whole_events_per_s` also the comparison with the live tables and the
switch.

With `--full` also `live_…`: what readers of the API, `wrk` among them, see while a million events
are rebuilt (`benchmarks/rebuild_live.py`).
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks import rebuild_live
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
EVENTS = 60_000
LIVE_PICTURES = 500_000
"""Two events each."""

FILL_RUN = 400
PIECE = 256 * 1024


def run(*, full: bool) -> dict[str, float]:
    """Return events a second (medians of three rounds), with --full also what readers see."""
    with servers(postgres=True) as embedded:
        assert embedded.redis_url is not None
        assert embedded.database_url is not None
        figures = asyncio.run(_measure(embedded.redis_url, embedded.database_url))
    return figures | rebuild_live.run(LIVE_PICTURES) if full else figures


@dataclass(frozen=True)
class _Round:
    fill: float
    fill_cpu: float
    """Processor seconds of this process, whatever else the machine does."""
    finish: float
    whole: float
    copy: float
    """Seconds of a bare COPY of prebuilt rows."""
    text: float
    """Seconds of a bare COPY of their text, ready in memory."""


async def _measure(redis_url: str, database_url: str) -> dict[str, float]:
    events = EVENTS
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
        measured = [await _round(log, pool, url, models) for _ in range(ROUNDS)]
    finally:
        await pool.close()
        await log.close()
    return {
        "rebuild_events_per_s": median([events / each.fill for each in measured]),
        "with_indexes_events_per_s": median(
            [events / (each.fill + each.finish) for each in measured]
        ),
        "whole_events_per_s": median([events / each.whole for each in measured]),
        "copy_events_per_s": median([events / each.copy for each in measured]),
        "copy_text_events_per_s": median([events / each.text for each in measured]),
        "ratio_copy": _middle([each.copy / each.fill for each in measured]),
        "ratio_text": _middle([each.text / each.fill for each in measured]),
        "client_cpu_us_per_event": round(
            statistics.median(1e6 * each.fill_cpu / events for each in measured), 1
        ),
        "events": events,
    }


def _middle(ratios: list[float]) -> float:
    return round(statistics.median(ratios), 3)


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
    copy, text = await asyncio.to_thread(_bare_copies, url, models)
    return _Round(
        fill=filled - began,
        fill_cpu=cpu - began_cpu,
        finish=finished - filled,
        whole=ended - began,
        copy=copy,
        text=text,
    )


def _bare_copies(url: str, models: list[ReadModel]) -> tuple[float, float]:
    """Copy the live rows into fresh tables, as rows and as text; return the seconds of each."""
    as_rows = as_text = 0.0
    with psycopg.connect(url, options="-c synchronous_commit=off") as connection:
        for table in [table for model in models for table in model.tables]:
            here = sql.Identifier(table)
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(here)).fetchall()
            as_rows += _copied(connection, table, partial(_write, rows=rows))
            del rows
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(here)) as copy:
                text = b"".join(copy)
            as_text += _copied(connection, table, partial(_send, text=text))
    return as_rows, as_text


def _write(copy: psycopg.Copy, rows: list[tuple[object, ...]]) -> None:
    for row in rows:
        copy.write_row(row)


def _send(copy: psycopg.Copy, text: bytes) -> None:
    for start in range(0, len(text), PIECE):
        copy.write(text[start : start + PIECE])


def _copied(
    connection: psycopg.Connection, like: str, send: Callable[[psycopg.Copy], None]
) -> float:
    """Return the seconds that a COPY into a fresh table takes, with its commit."""
    here, there = sql.Identifier(like), sql.Identifier(f"bare_{like}")
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(there, here))
    connection.commit()
    began = time.perf_counter()
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(there)) as copy:
        send(copy)
    connection.commit()
    seconds = time.perf_counter() - began
    connection.execute(sql.SQL("DROP TABLE {}").format(there))
    connection.commit()
    return seconds


def _fresh(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench")
    return urlunsplit(urlsplit(database_url)._replace(path="/bench"))
