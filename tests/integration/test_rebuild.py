"""Rebuild: the same rows beside the live ones, resumed, switched unnoticed, switched back."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import psycopg
import pytest
from msgspec import structs
from support.histories import (
    CAT,
    PERSON,
    assessed,
    batched,
    closed,
    detected,
    image,
    news,
    parked,
    rejected,
    video,
)
from support.made_up import history

from agents.project import Project, read_models
from domain.events import Event
from projections.build import begin_or_resume
from projections.checkpoints import ForeignCheckpointError
from projections.database import Pool, open_pool
from projections.detections import Detections
from projections.ledger import Ledger
from projections.queries import Queries
from projections.read_model import ReadModel, Run, Write
from projections.rebuild import (
    LOCK,
    DifferentError,
    NothingKeptError,
    Rebuild,
    RebuildRunningError,
    Rebuilt,
)
from projections.rows import DetectionFilter, EventFilter
from projections.runner import Projector
from projections.timeline import Timeline
from runtime.settings import PROJECT_ROOT
from streams.envelope import NewEvent
from streams.history import History
from streams.log import EventLog

ABOUT_PROJECTIONS = {"checkpoints", "refused_events", "projection_versions"}
ABOUT_PROCESSES = {"logs"}
"""What processes said of themselves: no fact of the event log."""
TABLES = sorted(table for model in read_models() for table in model.tables)
Contents = dict[str, list[Any]]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    opened = await EventLog.open(valkey_url)
    yield opened
    await opened.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=12)
    yield opened
    await opened.close()


@pytest.fixture
def rebuild(log: EventLog, pool: Pool) -> Rebuild:
    return Rebuild(log, History(log), pool)


async def project(log: EventLog, pool: Pool, models: Sequence[ReadModel] | None = None) -> None:
    """Let the live read models apply the whole log."""
    for model in models or read_models():
        projector = Projector(log, pool, model)
        while await projector.run_once():
            pass


async def contents(pool: Pool) -> Contents:
    """Return every row of every read model and view, and the checkpoints."""
    found: Contents = {}
    async with pool.connection() as connection:
        for table in (*TABLES, "picture_states", "file_states"):
            cursor = await connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT projection, version, stream, partition, ms, seq FROM checkpoints "
            "ORDER BY 1, 2, 3, 4"
        )
        found["checkpoints"] = await cursor.fetchall()
    return found


def telling(number: int, camera: str = "front_door") -> list[Event]:
    """Return all that happens to one picture."""
    picture = image(number, camera)
    return [
        picture,
        detected(picture, PERSON, CAT),
        batched(picture, picture),
        closed(picture),
        assessed(picture),
    ]


@pytest.mark.parametrize(("seed", "count"), [(0, 2000), (1, 2000), (2, 1), (3, 2), (4, 3), (5, 5)])
async def test_a_rebuild_gives_the_same_rows_whatever_its_windows(
    log: EventLog, pool: Pool, seed: int, count: int
) -> None:
    await log.append_all(news(history(Random(seed))))
    await project(log, pool)
    before = await contents(pool)
    done = await Rebuild(log, History(log), pool, count=count).run(read_models())
    assert await contents(pool) == before
    assert {each.projection for each in done} == {model.name for model in read_models()}
    assert all(table.equal for each in done for table in each.compared)
    assert {(each.version, each.replaced) for each in done} == {(2, 1)}


async def test_texts_of_every_kind_come_through(log: EventLog, pool: Pool) -> None:
    odd = [
        'quote " comma , back\\slash',
        "line\nbreak\ttab\rreturn",
        "\\n \\. \x01\x1f\x7f",
        "null",
        "",
        "ümläut 漢字 🙂",
        "\u2028]\n[",
        "zero\0byte",
    ]
    events: list[Event] = [
        structs.replace(rejected(number), detail=text, path=f"{text}/{number}")
        for number, text in enumerate(odd)
    ]
    events += [structs.replace(parked("detect", picture=image(1)), error=text) for text in odd]
    await log.append_all(news(events))
    await project(log, pool)
    before = await contents(pool)
    await Rebuild(log, History(log), pool).run([Ledger()])
    assert await contents(pool) == before


async def test_what_postgresql_refuses_is_noted_in_the_new_version_too(
    log: EventLog, pool: Pool
) -> None:
    huge = structs.replace(image(99), file_id="file_huge", size_bytes=2**64 - 1)
    await log.append_all(news([*(image(n) for n in range(20)), huge, image(98)]))
    await project(log, pool)
    (done,) = await Rebuild(log, History(log), pool).run([Ledger()])
    assert all(table.equal for table in done.compared)
    assert (await Queries(pool).refused())["ledger"] == 1


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_the_first_telling_stands_though_its_run_was_refused(
    log: EventLog, pool: Pool, count: int
) -> None:
    """The parts of a refused run keep their place before the run that was ready meanwhile."""
    huge = structs.replace(image(99), file_id="file_huge", size_bytes=2**64 - 1)
    told = [structs.replace(rejected(1), detail=f"telling {n}") for n in range(6)]
    await log.append_all(news([told[0], huge, *told[1:3], rejected(2), *told[3:]]))
    await project(log, pool)
    before = await contents(pool)
    (done,) = await Rebuild(log, History(log), pool, count=count).run([Ledger()])
    assert all(table.equal for table in done.compared)
    assert await contents(pool) == before


@pytest.mark.parametrize(
    ("stage", "number"), [("filling", 3), ("finishing", 1), ("comparing", 2), ("switching", 3)]
)
async def test_goes_on_after_kill_9(
    log: EventLog, pool: Pool, valkey_url: str, database_url: str, stage: str, number: int
) -> None:
    await log.append_all(news([e for n in range(60) for e in telling(n, f"camera_{n % 3}")]))
    await project(log, pool)
    before = await contents(pool)
    arguments = (valkey_url, database_url, stage, str(number))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.rebuild_process", *arguments, cwd=PROJECT_ROOT / "tests"
    )
    assert await process.wait() == -signal.SIGKILL
    assert await contents(pool) == before
    events = []
    rebuild = Rebuild(log, History(log), pool, lambda step: events.append(step.events))
    done: list[Rebuilt] = []
    async with asyncio.timeout(20):
        while not done:  # PostgreSQL notices the end of a killed client a moment later
            try:
                done = await rebuild.run(read_models())
            except RebuildRunningError:
                await asyncio.sleep(0.02)
    assert await contents(pool) == before
    assert all(table.equal for each in done for table in each.compared)
    if stage == "filling":
        assert 0 < max(events) < 60 * 5  # what was filled before was not read again


def later(events: Sequence[Event], name: str) -> list[NewEvent]:
    """Return events ready to append behind those of `news`, whose ids they do not share."""
    return [NewEvent(f"{name}_{number}", event, "test") for number, event in enumerate(events)]


class Traffic:
    """What a running house does meanwhile: appends, and readers that must never miss anything."""

    def __init__(self, log: EventLog, queries: Queries, pictures: int) -> None:
        self.log, self.queries = log, queries
        self.pictures, self.reads = pictures, 0
        self.stop = asyncio.Event()

    async def append(self) -> None:
        while not self.stop.is_set():
            await self.log.append_all(later(telling(self.pictures), f"live_{self.pictures}"))
            self.pictures += 1
            await asyncio.sleep(0.005)

    async def read(self) -> None:
        least = self.pictures
        while not self.stop.is_set():
            files = sum(row.files for row in await self.queries.file_counts())
            assert files >= least
            least = files
            page = await self.queries.events(EventFilter(), limit=5)
            assert len(page.items) == 5
            assert await self.queries.event(page.items[0].id) is not None
            self.reads += 1

    async def run(self) -> None:
        await asyncio.gather(self.append(), *(self.read() for _ in range(3)))


@pytest.mark.slow
async def test_live_appends_and_readers_during_rebuild_switch_and_rollback(
    log: EventLog, pool: Pool, database_url: str
) -> None:
    """Readers see what was there before at every moment; no event is lost or doubled."""
    await log.append_all(news([e for n in range(40) for e in telling(n)]))
    await project(log, pool)
    stop = asyncio.Event()
    live = asyncio.create_task(Project(log, database_url).run(stop))
    traffic = Traffic(log, Queries(pool), 40)
    running = asyncio.create_task(traffic.run())
    rebuild = Rebuild(log, History(log), pool)
    try:
        for _ in range(2):
            done = await rebuild.run(read_models())
            assert all(table.equal for each in done for table in each.compared)
        back = await rebuild.roll_back(Ledger())
        assert (back.version, back.replaced) == (2, 3)
        assert back.switch_seconds < 1
        assert not live.done()
    finally:
        traffic.stop.set()
        await running  # raises what a reader met
        stop.set()
        await live
    assert traffic.reads > 10
    assert traffic.pictures > 45
    await project(log, pool)
    grown = await contents(pool)
    assert len(grown["files"]) == len(grown["events"]) == traffic.pictures
    await rebuild.run(read_models())  # compares row by row
    assert await contents(pool) == grown


async def test_only_one_rebuild_of_a_projection_at_a_time(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    async with pool.connection() as another:
        await another.execute("SELECT pg_advisory_lock(%s, hashtext('ledger'))", (LOCK,))
        for work in (rebuild.run([Detections(), Ledger()]), rebuild.roll_back(Ledger())):
            with pytest.raises(RebuildRunningError, match="rolls back ledger right now"):
                await work
        assert [each.version for each in await rebuild.run([Detections()])] == [2]
        await another.execute("SELECT pg_advisory_unlock_all()")
    assert [each.version for each in await rebuild.run([Ledger()])] == [2]


async def test_tables_that_differ_are_not_switched_unasked(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    await log.append_all(news([e for n in range(5) for e in telling(n)]))
    await project(log, pool)
    right = await contents(pool)
    async with pool.connection() as connection:
        await connection.execute("UPDATE detections SET label = 'ghost' WHERE label = 'cat'")
        await connection.execute(
            "DELETE FROM detections WHERE picture_id = %s", (image(1).picture_id,)
        )
    wrong = await contents(pool)
    with pytest.raises(DifferentError, match=r"detections \(8 rows live, 10 new\)"):
        await rebuild.run([Detections()])
    assert await contents(pool) == wrong
    (done,) = await rebuild.run([Detections()], accept_differences=True)
    assert {each.table for each in done.compared if not each.equal} == {"detections"}
    assert await contents(pool) == right


async def test_rollback_needs_a_kept_version(pool: Pool, rebuild: Rebuild) -> None:
    with pytest.raises(NothingKeptError, match="no older version of ledger is kept"):
        await rebuild.roll_back(Ledger())


async def test_rollback_switches_back_and_forth_and_drops_older_versions(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    await log.append_all(news(telling(1)))
    await project(log, pool)
    for _ in range(3):
        await rebuild.run([Ledger()])
    await log.append_all(later([*telling(2), *video(3, 2)], "later"))
    await project(log, pool)
    now = await contents(pool)
    assert [(await rebuild.roll_back(Ledger())).version for _ in range(3)] == [3, 4, 3]
    assert len(now["files"]) == 3
    assert await contents(pool) == now
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hsi%'"
        )
        assert await cursor.fetchall() == [("hsi_ledger_v4",)]


async def test_new_rules_take_over_without_comparison_and_lock_older_software_out(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    class Surer(Detections):
        """Counts nothing below 0.8."""

        version = 2

        def writes(self, run: Run) -> list[Write]:
            write, *others = super().writes(run)
            sure = [row for row in write.rows if getattr(row, "confidence", 0) >= 0.8]
            return [Write(write.statement, sure, write.table), *others]

    await log.append_all(news(telling(1)))
    await project(log, pool)
    older = Projector(log, pool, Detections())
    assert await older.run_once() == 0
    (done,) = await rebuild.run([Surer()])
    assert done.compared == ()
    await log.append_all(later(telling(2), "later"))
    assert await older.run_once() == 0  # its checkpoint is gone
    with pytest.raises(ForeignCheckpointError, match="follows version 2 of its rules"):
        await older.run_once()
    newer = Projector(log, pool, Surer())
    while await newer.run_once():
        pass
    rows = (await Queries(pool).detections(DetectionFilter(), limit=10)).items
    assert [row.label for row in rows] == ["person", "person"]
    with pytest.raises(NothingKeptError, match="other rules"):
        await rebuild.roll_back(Surer())


async def test_a_version_without_a_table_that_came_since_is_of_no_use(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    await log.append_all(news(telling(1)))
    await project(log, pool)
    await rebuild.run([Timeline()])
    async with pool.connection() as connection:
        begun = await begin_or_resume(connection, Timeline(), log)
        await connection.execute(f"DROP TABLE {begun.version.schema}.event_labels".encode())
        await connection.execute("DROP TABLE hsi_timeline_v1.event_labels")
    with pytest.raises(NothingKeptError, match="other columns"):
        await rebuild.roll_back(Timeline())
    (done,) = await rebuild.run([Timeline()])
    assert [each.table for each in done.compared if each.equal] == list(Timeline.tables)


async def test_a_new_version_has_the_live_ones_keys_indexes_and_options(
    log: EventLog, pool: Pool, rebuild: Rebuild
) -> None:
    before = await catalog(pool)
    await log.append_all(news(telling(1)))
    await rebuild.run(read_models())
    assert await catalog(pool) == before


async def catalog(pool: Pool) -> list[Any]:
    """Return what the tables are made of, in an order of its own."""
    async with pool.connection() as connection:
        cursor = await connection.execute(CATALOG)
        return await cursor.fetchall()


CATALOG = """
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'key', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'options', relname, reloptions::text, relkind::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
UNION ALL
SELECT 'column', attrelid::regclass::text, attname,
       format_type(atttypid, atttypmod) || attnotnull::text || attgenerated::text
       || coalesce(pg_get_expr(adbin, adrelid), '')
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
  AND attnum > 0 AND NOT attisdropped
ORDER BY 1, 2, 3
"""


def test_every_table_but_those_about_projections_belongs_to_one_read_model(
    database_url: str,
) -> None:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables "
            "WHERE schemaname = 'public' AND tablename NOT LIKE '%yoyo%'"
        ).fetchall()
    assert len(set(TABLES)) == len(TABLES)
    assert {name for (name,) in rows} - set(TABLES) == ABOUT_PROJECTIONS | ABOUT_PROCESSES
