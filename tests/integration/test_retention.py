"""Retention end to end over real servers: what goes, what stays, and what a rebuild shows."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs
from psycopg import sql
from support.histories import PERSON, assessed, detected, gpu_sample, image, news, unverified

from agents.project import read_models
from agents.retention import RetentionRole
from domain.events import Event, EventHeld, GpuReading, ImageReceived, RetentionApplied
from domain.ids import detection_id
from inference.pictures import PictureStore
from projections.database import Pool, open_pool
from projections.queries import Queries
from projections.retention import Figures, Retention, cutoff_of, last_due, next_due
from projections.retention_queries import RetentionQueries
from projections.runner import Projector
from projections.upkeep import Upkeep, UpkeepOptions
from streams.archive import verify
from streams.envelope import START, NewEvent
from streams.fenced import append_if_last
from streams.history import History
from streams.holding import HeldElsewhereError, holding
from streams.lease import Lease
from streams.log import EventLog
from streams.names import GROUPS, stream_key

UTC_ZONE = ZoneInfo("UTC")
TABLES = (
    "events",
    "detections",
    "pictures",
    "files",
    "redacted_files",
    "redacted_pictures",
    "gpu_samples",
    "retention_runs",
    "unverified",
)


def test_day_thirty_is_kept_to_its_end_and_older_is_not() -> None:
    now = datetime(2026, 4, 10, 14, tzinfo=UTC)
    cutoff = cutoff_of(now, 30, UTC_ZONE)
    assert cutoff == datetime(2026, 3, 11, tzinfo=UTC)
    berlin = cutoff_of(now, 30, ZoneInfo("Europe/Berlin"))
    assert berlin == datetime(2026, 3, 10, 23, tzinfo=UTC)


def test_the_daily_run_is_at_three_in_the_cameras_zone() -> None:
    zone = ZoneInfo("America/New_York")
    at = datetime(2026, 4, 10, 6, 59, tzinfo=UTC)
    assert last_due(at, zone) == datetime(2026, 4, 9, 7, tzinfo=UTC)
    assert next_due(at, zone) == datetime(2026, 4, 10, 7, tzinfo=UTC)
    assert last_due(at + timedelta(minutes=1), zone) == datetime(2026, 4, 10, 7, tzinfo=UTC)
    assert next_due(at + timedelta(minutes=1), zone) == datetime(2026, 4, 11, 7, tzinfo=UTC)


@dataclass
class House:
    """A log, its read models, camera folders, and retention over them."""

    log: EventLog
    pool: Pool
    base: Path
    archive: Path
    now: datetime

    @property
    def queries(self) -> RetentionQueries:
        return RetentionQueries(self.pool)

    @property
    def retention(self) -> Retention:
        return Retention(
            self.log,
            self.queries,
            Queries(self.pool),
            PictureStore(self.base, self.base / "frames"),
            days=30,
            zone=UTC_ZONE,
        )

    def upkeep(self, keep_hours: int = 1) -> Upkeep:
        options = UpkeepOptions(read_models(), self.archive, keep_hours)
        return Upkeep(self.log, self.queries, options)

    def picture(self, number: int, days: float, camera: str = "porch") -> ImageReceived:
        """Return a picture taken so many days ago, and put its file in its folder."""
        content = f"{camera} {number}".encode() * 50
        told = structs.replace(
            image(number, camera),
            captured_at=self.now - timedelta(days=days),
            sha256=sha256(content).hexdigest(),
        )
        path = self.base / told.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return told

    async def told(self, *pictures: ImageReceived) -> list[str]:
        """Append each picture with what was seen in it; return the ids of the events."""
        events: list[Event] = []
        ids = []
        for picture in pictures:
            seen = structs.replace(detected(picture, PERSON), captured_at=picture.captured_at)
            risk = structs.replace(
                assessed(picture),
                started_at=picture.captured_at,
                ended_at=picture.captured_at,
            )
            events += [picture, unverified(picture), seen, risk]
            ids.append(risk.event_id)
        await self.append(*events)
        return ids

    async def append(self, *events: Event) -> None:
        stamp = os.urandom(4).hex()  # the same event may be told again under another id
        await self.log.append_all(
            [NewEvent(f"{new.id}-{stamp}", new.event, "test") for new in news(events)]
        )

    async def contents(self) -> dict[str, list[Any]]:
        found = {}
        async with self.pool.connection() as connection:
            for table in TABLES:
                cursor = await connection.execute(
                    sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
                )
                found[table] = await cursor.fetchall()
        return found

    async def ids(self, table: str, column: str = "id") -> set[str]:
        async with self.pool.connection() as connection:
            names = (sql.Identifier(column), sql.Identifier(table))
            query = sql.SQL("SELECT {} FROM {}").format(*names)
            return {row[0] for row in await (await connection.execute(query)).fetchall()}

    async def caught_up(self) -> None:
        for model in read_models():
            projector = Projector(self.log, self.pool, model)
            while await projector.run_once():
                continue


@pytest.fixture
async def house(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    log = await EventLog.open(valkey_url, partitions=2)
    pool = await open_pool(database_url, name="test", max_size=6)
    base = tmp_path / "cameras"
    base.mkdir()
    # Retention's clock is an argument: a month and more after all of this was recorded.
    now = datetime.now(UTC) + timedelta(days=40)
    house = House(log, pool, base, tmp_path / "archive", now)
    stop = asyncio.Event()
    projectors = [Projector(log, pool, model) for model in read_models()]
    tasks = [asyncio.create_task(each.run(stop)) for each in projectors]
    yield house
    stop.set()
    await asyncio.wait(tasks)
    await pool.close()
    await log.close()


async def test_older_rows_and_pictures_go_and_day_thirty_stays(house: House) -> None:
    kept, old, other = (
        house.picture(1, 30),
        house.picture(2, 31),
        house.picture(3, 400, "garden"),
    )
    events = await house.told(kept, old, other)
    cutoff = cutoff_of(house.now, 30, UTC_ZONE)
    fresh = gpu_sample(0, GpuReading(index=0))
    await house.append(
        structs.replace(fresh, sampled_at=cutoff),
        structs.replace(fresh, sampled_at=cutoff - timedelta(seconds=1)),
    )
    planned = await house.retention.plan(house.now)
    assert (planned.events, planned.detections, planned.gpu_samples) == (2, 2, 1)
    assert (planned.images, planned.bytes) == (2, 350 + 400)
    assert await house.ids("events") == set(events)  # a dry run deletes nothing
    assert (house.base / old.path).exists()
    done = await house.retention.run(house.now)
    assert planned == Figures(
        done.events_deleted,
        done.detections_deleted,
        done.gpu_stats_deleted,
        done.images_deleted,
        done.space_reclaimed,
    )
    assert await house.ids("events") == {events[0]}
    assert await house.ids("detections") == {detection_id(kept.picture_id, 0)}
    assert await house.ids("unverified", "picture_id") == {kept.picture_id}
    assert [path.exists() for path in (house.base / kept.path, house.base / old.path)] == [
        True,
        False,
    ]
    states = {row.state: row.files for row in await Queries(house.pool).file_counts()}
    assert states == {"assessed": 3}  # the ledger forgets no file
    assert await house.queries.redacted_at(old.file_id) == house.now
    assert await house.queries.redacted_at(kept.file_id) is None
    assert await house.retention.plan(house.now) == Figures()
    assert (await house.retention.run(house.now + timedelta(minutes=1))).events_deleted == 0


async def test_a_rebuild_from_archive_and_stream_does_not_resurrect(
    house: House, database_url: str
) -> None:
    await house.told(*(house.picture(k, 20 + k, ("porch", "garden")[k % 2]) for k in range(20)))
    await house.retention.run(house.now)
    await house.told(house.picture(50, 45))  # an old picture that comes later stays for now
    await house.caught_up()
    live = await house.contents()
    assert 0 < len(live["events"]) < 21
    async with house.pool.connection() as connection:
        for table in {name for model in read_models() for name in model.tables}:
            await connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        history = History(house.log)
        # Lane by lane, the rules first and last: no order may bring anything back.
        for order in (("assessments", "detections", "files"), ("files", "detections")):
            for stream in (*order, "assessments", "system"):
                for partition in range(house.log.partitions):
                    async for run in history.read_all(stream, partition, START, count=3):
                        for model in read_models():
                            if stream in model.streams:
                                await model.apply(connection, run)
    assert await house.contents() == live


async def handle_everything(log: EventLog) -> None:
    """Let every consumer group have had, and done with, what the log holds."""
    for group, stream in GROUPS.items():
        for partition in range(log.partitions):
            name = stream_key(partition, stream)
            while await log.client.xreadgroup(group, "c", {name: ">"}, count=1000):
                rows = await log.client.xpending_range(name, group, "-", "+", 1000)
                await log.client.xack(name, group, *(row["message_id"] for row in rows))


async def test_a_rebuild_from_archive_and_trimmed_streams_does_not_resurrect(
    house: House, valkey_url: str, database_url: str
) -> None:
    """The operator's way: archive, trim, `hsi projections rebuild all`."""
    kept = await house.told(house.picture(60, 50))
    await house.append(EventHeld(camera_id="porch", event_id=kept[0], held=True, actor="me"))
    await house.told(*(house.picture(k, 20 + k, ("porch", "garden")[k % 2]) for k in range(20)))
    await house.retention.run(house.now)
    await house.told(house.picture(50, 45), house.picture(51, 1))
    await house.caught_up()
    live = await house.contents()
    assert 0 < len(live["events"]) < 23
    assert len(live["redacted_files"]) > 0
    await handle_everything(house.log)
    done = await house.upkeep().run(house.now + timedelta(hours=2))
    assert done.trimmed > 60
    for stream in ("files", "detections", "assessments"):
        lane = (stream, house.log.partition_of("porch"))
        assert await house.log.read(*lane, START, 10) == []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hsi", "projections", "rebuild", "all", "--json"),
        env={
            **os.environ,
            "REDIS_URL": valkey_url,
            "DATABASE_URL": database_url,
            "ARCHIVE_DIR": str(house.archive),
            "STREAM_PARTITIONS": "2",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b'"version":2' in said.replace(b" ", b"")
    assert await house.contents() == live
    assert await house.ids("events") >= set(kept)


async def test_a_legal_hold_keeps_rows_and_pictures_until_it_is_lifted(house: House) -> None:
    first, second = house.picture(1, 40), house.picture(2, 40)
    held, other = await house.told(first, second)
    await house.append(EventHeld(camera_id="porch", event_id=held, held=True))
    assert (await house.retention.run(house.now)).events_deleted == 1
    assert await house.ids("events") == {held}
    assert await house.ids("unverified", "picture_id") == {first.picture_id}
    assert (house.base / first.path).exists()
    assert not (house.base / second.path).exists()
    await house.append(EventHeld(camera_id="porch", event_id=held, held=False))
    later = house.now + timedelta(minutes=1)
    assert (await house.retention.run(later)).images_deleted == 1
    assert await house.ids("events") == set()
    assert other not in await house.ids("events")


async def test_a_hold_that_comes_between_counting_and_deciding_is_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event,) = await house.told(house.picture(1, 40))
    calls = 0

    async def late(log: EventLog, new: Any, last: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await house.append(EventHeld(camera_id="porch", event_id=event, held=True))
        return await append_if_last(log, new, last)

    monkeypatch.setattr("projections.retention.append_if_last", late)
    done = await house.retention.run(house.now)
    assert (done.events_deleted, done.images_deleted) == (0, 0)
    assert await house.ids("events") == {event}
    assert calls == 2


async def test_a_file_that_is_another_by_now_stays(house: House) -> None:
    picture = house.picture(1, 40)
    await house.told(picture)
    (house.base / picture.path).write_bytes(b"another upload under the same name")
    assert (await house.retention.run(house.now)).images_deleted == 0
    assert (house.base / picture.path).exists()


async def test_a_link_that_leads_out_is_not_followed(house: House, tmp_path: Path) -> None:
    picture = house.picture(1, 40)
    await house.told(picture)
    path = house.base / picture.path
    outside = tmp_path / "outside.jpg"
    path.rename(outside)
    path.symlink_to(outside)
    assert (await house.retention.run(house.now)).images_deleted == 0
    assert outside.exists()


async def test_only_one_process_runs_retention(house: House) -> None:
    async with holding(Lease(house.log, "retention", 0), "retention"):
        with pytest.raises(HeldElsewhereError):
            await house.retention.run(house.now)


async def test_a_missed_run_is_made_up_for_once(house: House) -> None:
    await house.told(house.picture(1, 40))
    clock = [house.now]
    role = RetentionRole(house.retention, house.upkeep(), now=lambda: clock[0])
    assert await role.look()
    assert not await role.look()
    clock[0] = next_due(house.now, UTC_ZONE) - timedelta(seconds=1)
    assert not await role.look()
    clock[0] += timedelta(days=3)  # everything was down; one run makes up for three
    assert await RetentionRole(house.retention, house.upkeep(), now=lambda: clock[0]).look()
    assert not await role.look()


async def test_a_new_installation_has_nothing_to_make_up_for(house: House) -> None:
    role = RetentionRole(house.retention, house.upkeep(), now=lambda: house.now)
    assert not await role.look()
    await house.told(house.picture(1, 3))
    assert not await role.look()


async def test_upkeep_trims_behind_the_read_models_and_everything_stays_readable(
    house: House,
) -> None:
    await house.told(*(house.picture(k, 1) for k in range(10)))
    await house.caught_up()
    lane = ("files", house.log.partition_of("porch"))
    whole = [e async for run in History(house.log).read_all(*lane) for e in run]
    await handle_everything(house.log)
    done = await house.upkeep().run(house.now + timedelta(hours=2))
    assert done.archived.entries == 40
    assert done.trimmed == 40
    assert await house.log.read(*lane, START, 100) == []
    history = History(house.log, house.archive)
    assert [e async for run in history.read_all(*lane) for e in run] == whole
    assert verify(house.archive).problem is None
    assert (await house.upkeep().run(house.now + timedelta(hours=2))).trimmed == 0


KILLED = """
import asyncio, os, signal, sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo
from inference.pictures import PictureStore
from projections import retention
from projections.database import open_pool
from projections.queries import Queries
from projections.retention_queries import RetentionQueries
from streams.log import EventLog

async def main(redis, database, base, now, point):
    def die(*_): os.kill(os.getpid(), signal.SIGKILL)
    if point == "delete": PictureStore.delete = die
    if point == "finish": retention.Retention._finish = die
    if point == "applied":
        append = retention.append_if_last
        async def then_die(*given):
            await append(*given)
            die()
        retention.append_if_last = then_die
    log = await EventLog.open(redis, partitions=2)
    pool = await open_pool(database, name="killed")
    store = PictureStore(Path(base), Path(base) / "frames")
    await retention.Retention(
        log, RetentionQueries(pool), Queries(pool), store, days=30, zone=ZoneInfo("UTC")
    ).run(datetime.fromisoformat(now))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("point", ["applied", "delete", "finish"])
async def test_killed_at_any_point_the_next_run_finishes_it(
    house: House, valkey_url: str, database_url: str, point: str
) -> None:
    pictures = [house.picture(k, 40 + k, ("porch", "garden")[k % 2]) for k in range(4)]
    await house.told(*pictures, house.picture(9, 2))
    given: Sequence[str] = (valkey_url, database_url, str(house.base), house.now.isoformat())
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *given, point, cwd=os.getcwd()
    )
    assert await child.wait() == -signal.SIGKILL
    await house.log.client.delete("hsi:{0}:lease:retention")  # what its time would do
    await house.caught_up()
    assert await house.retention.is_due(house.now, house.now)
    await house.retention.run(house.now + timedelta(minutes=1))
    assert [p for p in pictures if (house.base / p.path).exists()] == []
    runs = await house.contents()
    assert len(runs["retention_runs"]) == 2
    assert len(runs["events"]) == 1
    rows = await house.queries.applied(house.now)
    assert sum(row.images_deleted for row in rows) == 4
    applied = [
        envelope.event
        for partition in range(2)
        for envelope in await house.log.read("assessments", partition, START, 1000)
        if isinstance(envelope.event, RetentionApplied)
    ]
    assert sorted(event.camera_id for event in applied) == ["garden", "porch"]


async def test_what_came_lately_stays_however_old_it_says_it_is(house: House) -> None:
    # given a picture that a camera with a wrong clock dates 400 days back
    await house.told(house.picture(1, 400))
    # when retention runs on the day it came
    done = await house.retention.run(datetime.now(UTC) + timedelta(minutes=1))
    # then it is kept: days count from when the log took it in, if that is later
    assert (done.events_deleted, done.detections_deleted, done.images_deleted) == (0, 0, 0)
