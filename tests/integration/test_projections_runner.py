"""The projector: checkpoint and rows move together, whoever else runs and whatever goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

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
    registered,
)
from support.servers import PrivatePostgres, PrivateValkey

from agents.project import Project, read_models
from domain.events import Event
from projections.checkpoints import ForeignCheckpointError
from projections.database import Connection, Pool, open_pool
from projections.detections import Detections
from projections.ledger import Ledger
from projections.migrate import migrate
from projections.queries import Queries
from projections.runner import Projector, SchemaMissingError
from streams.envelope import START, Envelope
from streams.log import EventLog

EVENTS: list[Event] = [
    event
    for number in range(30)
    for event in (image(number), detected(image(number), PERSON, CAT))
]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    opened = await EventLog.open(valkey_url)
    yield opened
    await opened.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test")
    yield opened
    await opened.close()


async def caught_up(projector: Projector) -> int:
    """Apply everything there is; return how many events that were."""
    total = 0
    while applied := await projector.run_once():
        total += applied
    return total


async def until(check: Callable[[], object], seconds: float = 20) -> None:
    """Return as soon as `check` answers something true."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what another process did cannot be awaited
            await asyncio.sleep(0.02)


def count(url: str, table: str) -> int:
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert row is not None
        return int(row[0])
    return -1


async def test_applies_the_log_once_and_goes_on_from_its_checkpoint(
    log: EventLog, pool: Pool
) -> None:
    positions = await log.append_all(news(EVENTS))
    assert await caught_up(Projector(log, pool, Ledger(), batch=40)) == len(EVENTS)
    assert await caught_up(Projector(log, pool, Ledger())) == 0
    queries = Queries(pool)
    checkpoint = await queries.checkpoint("ledger")
    lane = "detections", log.partition_of("front_door")
    assert checkpoint[lane] == positions[-1]
    others = {at for key, at in checkpoint.items() if key[1] != lane[1]}
    assert others == {START}
    (states,) = await queries.file_counts()
    assert (states.state, states.reason, states.files) == ("pending", "batch", 30)


async def test_two_projectors_of_one_read_model_apply_each_event_once(
    log: EventLog, pool: Pool
) -> None:
    class Counting(Detections):
        applied = 0

        async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
            Counting.applied += len(envelopes)
            await super().apply(connection, envelopes)

    cameras = ("a", "b", "c", "d")
    events = [detected(image(k, cameras[k % 4]), PERSON) for k in range(200)]
    await log.append_all(news(events))
    first, second = (Projector(log, pool, Counting(), batch=20) for _ in range(2))
    # Both know the same checkpoint before either moves it.
    await asyncio.gather(first.run_once(), second.run_once())
    while await first.run_once() + await second.run_once():
        pass
    await caught_up(first)
    await caught_up(second)
    assert Counting.applied == len(events)
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM detections")
        assert await cursor.fetchone() == (len(events),)


async def test_a_failing_apply_moves_nothing(log: EventLog, pool: Pool) -> None:
    class Failing(Ledger):
        fails = True

        async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
            await super().apply(connection, envelopes)
            if self.fails:
                raise psycopg.OperationalError("the server closed the connection")

    await log.append_all(news(EVENTS))
    model = Failing()
    projector = Projector(log, pool, model)
    with pytest.raises(psycopg.OperationalError):
        await projector.run_once()
    assert set((await Queries(pool).checkpoint("ledger")).values()) == {START}
    assert await Queries(pool).file_counts() == []
    model.fails = False
    projector = Projector(log, pool, model)
    assert await caught_up(projector) == len(EVENTS)


async def test_what_postgresql_refuses_is_noted_and_the_rest_goes_on(
    log: EventLog, pool: Pool
) -> None:
    huge = structs.replace(
        image(99), file_id="file_huge", picture_id="pic_huge", size_bytes=2**64 - 1
    )
    events = [*EVENTS[:31], huge, *EVENTS[31:]]
    await log.append_all(news(events))
    await caught_up(Projector(log, pool, Ledger()))
    queries = Queries(pool)
    assert await queries.refused() == {"ledger": 1}
    assert sum(row.files for row in await queries.file_counts()) == 30
    assert await queries.file("file_huge") is None


async def test_a_checkpoint_of_another_log_stops_the_projector(log: EventLog, pool: Pool) -> None:
    await log.append_all(news(EVENTS))
    await caught_up(Projector(log, pool, Ledger()))
    async with pool.connection() as connection:
        await connection.execute("UPDATE checkpoints SET incarnation = 'another'")
    with pytest.raises(ForeignCheckpointError, match=r"another.*REDIS_URL"):
        await Projector(log, pool, Ledger()).run(asyncio.Event())


async def test_a_log_that_lost_its_end_stops_the_projector(log: EventLog, pool: Pool) -> None:
    await log.append_all(news(EVENTS))
    await caught_up(Projector(log, pool, Ledger()))
    async with pool.connection() as connection:
        await connection.execute("UPDATE checkpoints SET ms = ms + 1 WHERE ms > 0")
    with pytest.raises(ForeignCheckpointError, match="lost its end"):
        await Projector(log, pool, Ledger()).run(asyncio.Event())


async def test_a_database_without_the_schema_says_what_to_do(
    log: EventLog, empty_database_url: str
) -> None:
    pool = await open_pool(empty_database_url, name="test")
    try:
        with pytest.raises(SchemaMissingError, match="hsi migrate"):
            await Projector(log, pool, Ledger()).run(asyncio.Event())
    finally:
        await pool.close()


async def test_waits_out_a_postgresql_that_is_away(
    log: EventLog, private_postgres: PrivatePostgres, caplog: pytest.LogCaptureFixture
) -> None:
    url = private_postgres.url
    await asyncio.to_thread(migrate, url)
    stop = asyncio.Event()
    running = asyncio.create_task(Project(log, url).run(stop))
    try:
        await log.append_all(news(EVENTS[:20]))
        await until(lambda: count(url, "detections") == 20)
        private_postgres.kill()
        await log.append_all(news(EVENTS[:40])[20:])
        await until(lambda: "nothing is lost" in caplog.text)
        assert not running.done()
        private_postgres.start()
        await until(lambda: count(url, "detections") == 40)
        await until(lambda: count(url, "pictures") == 20)
    finally:
        stop.set()
        await running


async def test_waits_out_a_redis_that_is_away(
    private_valkey: PrivateValkey, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = await EventLog.open(private_valkey.url)
    stop = asyncio.Event()
    running = asyncio.create_task(Project(log, database_url).run(stop))
    try:
        await log.append_all(news(EVENTS[:20]))
        await until(lambda: count(database_url, "detections") == 20)
        private_valkey.stop()
        await until(lambda: "nothing is lost" in caplog.text)
        private_valkey.start()
        await log.append_all(news(EVENTS[:40])[20:])
        await until(lambda: count(database_url, "detections") == 40)
        assert not running.done()
    finally:
        stop.set()
        await running
        await log.close()


async def test_project_runs_every_read_model_until_it_is_stopped(
    log: EventLog, pool: Pool, database_url: str
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(Project(log, database_url).run(stop))
    picture = image(1)
    events = [
        registered("front_door"),
        picture,
        detected(picture, PERSON),
        batched(picture, picture),
        closed(picture),
        assessed(picture),
    ]
    *_, last = await log.append_all(news(events))
    queries = Queries(pool)
    partition = log.partition_of("front_door")
    for name in ("ledger", "timeline"):
        assert await queries.wait_for(name, "assessments", partition, last, 20)
    stop.set()
    await running
    assert [row.state for row in await queries.file_counts()] == ["assessed"]
    assert not await queries.wait_for("ledger", "assessments", partition, last.next(), 0.05)
    names = sorted(model.name for model in read_models())
    assert await queries.projections() == names


async def test_a_read_model_that_fails_ends_project_with_its_error(
    log: EventLog, pool: Pool, database_url: str
) -> None:
    class Broken(Detections):
        async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
            raise LookupError("a mistake in the code")

    await log.append_all(news(EVENTS))
    project = Project(log, database_url, [Ledger(), Broken()])
    with pytest.raises(LookupError):
        await project.run(asyncio.Event())
