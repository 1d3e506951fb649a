"""Tables that are ahead of a log which lost its end: made anew, by the role or by command."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.histories import CAT, PERSON, assessed, batched, closed, detected, image, news
from support.loss import copy, put_back
from support.servers import PrivateValkey
from support.watching import eventually

from agents.project import Project, read_models
from domain.errors import HsiError
from domain.events import Event
from projections.checkpoints import AheadOfLogError, OtherLogError
from projections.database import Pool, open_pool
from projections.ledger import Ledger
from projections.making_good import IncompleteLogError
from projections.migrate import migrate
from projections.rebuild import LOCK, POOL, NothingKeptError, Progress, Rebuild
from projections.runner import Projector
from runtime.settings import PROJECT_ROOT
from streams.history import History
from streams.log import EventLog

CAMERAS = 4


def telling(numbers: range) -> list[Event]:
    """Return all that happens to some pictures."""
    return [
        event
        for number in numbers
        for picture in (image(number, f"camera_{number % CAMERAS}"),)
        for event in (
            picture,
            detected(picture, PERSON, CAT),
            batched(picture, picture),
            closed(picture),
            assessed(picture),
        )
    ]


async def append(log: EventLog, numbers: range) -> None:
    """Append the events of some pictures, under ids that depend on the pictures alone."""
    until = news(telling(range(numbers.stop)))
    await log.append_all(until[len(telling(range(numbers.start))) :])


def rows(url: str) -> dict[str, list[Any]]:
    """Return every row of every read model, and the checkpoints."""
    tables = sorted(table for model in read_models() for table in model.tables)
    with psycopg.connect(url) as connection:
        found = {
            table: connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall()
            for table in (*tables, "file_states")
        }
        found["checkpoints"] = connection.execute(
            "SELECT projection, stream, partition, ms, seq, incarnation FROM checkpoints "
            "ORDER BY 1, 2, 3"
        ).fetchall()
    return found


async def truth(log: EventLog, url: str) -> dict[str, list[Any]]:
    """Return what empty tables become by applying the log, in place of what was there."""
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    await asyncio.to_thread(migrate, url)
    await project(log, url)
    return rows(url)


async def project(log: EventLog, url: str) -> None:
    async with pool_to(url) as pool:
        for model in read_models():
            projector = Projector(log, pool, model)
            while await projector.run_once():
                pass


@asynccontextmanager
async def pool_to(url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(url, name="test", max_size=POOL)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[EventLog]:
    log = await EventLog.open(url)
    try:
        yield log
    finally:
        await log.close()


async def lose_the_end(valkey: PrivateValkey, url: str, folder: Path) -> None:
    """Project 30 pictures, let the log forget the last 20, and go on behind the gap with 5."""
    async with log_at(valkey.url) as log:
        await append(log, range(10))
        copy(valkey, folder / "kept")
        await append(log, range(10, 30))
        await project(log, url)
    put_back(valkey, folder / "kept")
    async with log_at(valkey.url) as log:
        await append(log, range(10, 15))


async def test_the_role_makes_them_anew_and_goes_on(
    private_valkey: PrivateValkey,
    database_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await lose_the_end(private_valkey, database_url, tmp_path)
    async with log_at(private_valkey.url) as log:
        async with running(log, database_url):
            await append(log, range(15, 20))
            await eventually(lambda: "were made anew" in caplog.text)
            await eventually(lambda: has_pictures(database_url, 20))
        assert "which the log no longer holds" in caplog.text
        async with pool_to(database_url) as pool:
            with pytest.raises(NothingKeptError, match="in the schema hsi_ledger_v1"):
                await Rebuild(log, History(log), pool).roll_back(Ledger())
        made = rows(database_url)
        with psycopg.connect(database_url) as connection:
            kept = connection.execute("SELECT count(*) FROM hsi_ledger_v1.pictures").fetchone()
        assert kept == (30,), "what was live can still be looked at"
        assert made == await truth(log, database_url)


async def has_pictures(url: str, count: int) -> bool:
    """Count in a thread: a reader that waits for the switch must not hold up who switches."""
    return await asyncio.to_thread(_count, url) == count


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("SELECT count(*) FROM pictures").fetchone() or (0,)
    return int(count)


@asynccontextmanager
async def running(log: EventLog, url: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run the role until the block ends."""
    stop = asyncio.Event()
    task = asyncio.create_task(Project(log, url).run(stop))
    try:
        yield task
    finally:
        stop.set()
        await task


async def test_two_processes_make_them_anew_once(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    await lose_the_end(private_valkey, database_url, tmp_path)
    async with log_at(private_valkey.url) as one, log_at(private_valkey.url) as two:
        async with running(one, database_url), running(two, database_url):
            await eventually(lambda: has_pictures(database_url, 15))
            await append(one, range(15, 20))
            await eventually(lambda: has_pictures(database_url, 20))
        with psycopg.connect(database_url) as connection:
            versions = connection.execute(
                "SELECT max(version), count(*) FILTER (WHERE state = 'live'), count(*) "
                "FROM projection_versions GROUP BY projection"
            ).fetchall()
        assert set(versions) <= {(2, 1, 2), (1, 1, 1)}
        assert rows(database_url) == await truth(one, database_url)


async def test_the_command_makes_them_anew_where_no_role_runs(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    await lose_the_end(private_valkey, database_url, tmp_path)
    async with log_at(private_valkey.url) as log, pool_to(database_url) as pool:
        with pytest.raises(AheadOfLogError, match="hsi projections rebuild all"):
            await Projector(log, pool, Ledger()).run_once()
        said = await asyncio.to_thread(hsi_rebuild, private_valkey.url, database_url)
        assert "filling" in said
        assert rows(database_url) == await truth(log, database_url)


def hsi_rebuild(redis_url: str, database_url: str, *options: str) -> str:
    command = [sys.executable, "-m", "hsi", "projections", "rebuild", "all", *options]
    done = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env={"REDIS_URL": redis_url, "DATABASE_URL": database_url, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


async def test_an_unfinished_build_that_holds_what_is_lost_is_begun_anew(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    async with log_at(private_valkey.url) as log, pool_to(database_url) as pool:
        await append(log, range(10))
        copy(private_valkey, tmp_path / "kept")
        await append(log, range(10, 30))
        with pytest.raises(_EnoughError):
            await Rebuild(log, History(log), pool, _stop_at_the_comparison).run(read_models())
    put_back(private_valkey, tmp_path / "kept")
    async with log_at(private_valkey.url) as log, pool_to(database_url) as pool:
        await append(log, range(10, 15))
        await Rebuild(log, History(log), pool).run(read_models())
        assert rows(database_url) == await truth(log, database_url)


class _EnoughError(HsiError):
    """The rebuild ends here."""


def _stop_at_the_comparison(step: Progress) -> None:
    if step.stage == "comparing":
        raise _EnoughError


async def test_a_log_that_somebody_took_entries_out_of_is_not_used_unasked(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    await lose_the_end(private_valkey, database_url, tmp_path)
    before = rows(database_url)
    async with log_at(private_valkey.url) as log:
        lane = ("detections", log.partition_of("camera_0"))
        await log.client.xtrim(f"hsi:{{{lane[1]}}}:{lane[0]}", maxlen=1, approximate=False)
        with pytest.raises(IncompleteLogError, match=f"from {lane[0]}/{lane[1]} entries"):
            await asyncio.wait_for(Project(log, database_url).run(asyncio.Event()), 20)
    assert rows(database_url) == before


async def test_tables_of_another_log_are_made_anew_only_when_that_is_said(
    valkey_url: str, database_url: str
) -> None:
    async with log_at(valkey_url) as log, pool_to(database_url) as pool:
        await append(log, range(4))
        await project(log, database_url)
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE checkpoints SET incarnation = 'another', ms = ms + 9")
            connection.execute("DELETE FROM detections")
        before = rows(database_url)
        for work in (
            Project(log, database_url).run(asyncio.Event()),
            Rebuild(log, History(log), pool).run(read_models()),
        ):
            with pytest.raises(OtherLogError, match="rebuild all --accept-differences"):
                await asyncio.wait_for(work, 20)
        assert rows(database_url) == before
        await asyncio.to_thread(hsi_rebuild, valkey_url, database_url, "--accept-differences")
        assert rows(database_url) == await truth(log, database_url)


@contextmanager
def rebuilding(url: str) -> Iterator[None]:
    """Hold the lock of a rebuild, as another process would while it rebuilds."""
    with psycopg.connect(url, autocommit=True) as another:
        another.execute("SELECT pg_advisory_lock(%s, hashtext('ledger'))", (LOCK,))
        yield


async def test_the_role_waits_while_somebody_rebuilds(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    await lose_the_end(private_valkey, database_url, tmp_path)
    async with log_at(private_valkey.url) as log:
        with rebuilding(database_url):
            async with running(log, database_url) as task:
                await asyncio.sleep(0.5)
                assert not task.done()
                assert await has_pictures(database_url, 30)
        async with running(log, database_url):
            await eventually(lambda: has_pictures(database_url, 15))
