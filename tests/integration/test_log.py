"""The event log on a real server and on a cluster of three: append, take in, read, follow."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.logs import detected, new, opened, received, rejected

from domain.errors import HsiError, ServiceUnavailableError
from streams.consumer import ConsumerGroup
from streams.envelope import START, NewEvent, UnreadableEntry
from streams.log import EventLog, Intake
from streams.names import GROUPS, partition_of, stream_key

PARTITIONS = 3


def camera_in(partition: int) -> str:
    """Return a camera of the partition."""
    return next(
        name
        for number in range(1000)
        if partition_of(name := f"camera{number}", PARTITIONS) == partition
    )


@pytest.fixture(params=["single", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"single": "valkey_url", "cluster": "redis_cluster_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
async def log(url: str) -> AsyncIterator[EventLog]:
    async with opened(url, PARTITIONS) as log:
        yield log


def intake(path: str, signature: str, sha256: str | None, *events: NewEvent) -> Intake:
    return Intake(
        camera_id="porch",
        path=path,
        signature=signature,
        file_id=f"id-{path}-{signature}",
        sha256=sha256,
        dedupe_ttl_seconds=300,
        events=events,
    )


async def test_it_is_founded_once_and_keeps_its_incarnation_and_partitions(url: str) -> None:
    async with opened(url, PARTITIONS) as first, opened(url, PARTITIONS) as second:
        assert first.incarnation == second.incarnation
        assert first.cluster == second.cluster == ("unix" not in url)
    with pytest.raises(HsiError) as refused:
        await EventLog.open(url, partitions=4)
    message = str(refused.value)
    assert message.startswith("STREAM_PARTITIONS is 4, but this log was founded with 3")
    assert "set STREAM_PARTITIONS=3, or begin another log" in message
    assert "STREAM_PARTITIONS=3" in message


async def test_another_life_has_another_incarnation(log: EventLog) -> None:
    await log.client.delete("hsi:meta")
    other = await EventLog.open(_url_of(log), partitions=PARTITIONS)
    try:
        assert other.incarnation != log.incarnation
    finally:
        await other.close()


def _url_of(log: EventLog) -> str:
    if log.cluster:
        node = log.client.get_primaries()[0]
        return f"redis://{node.host}:{node.port}"
    options = log.client.connection_pool.connection_kwargs
    return f"unix://:{options['password']}@{options['path']}"


async def test_the_same_id_is_appended_once(log: EventLog) -> None:
    first = await log.append(new(detected("a")))
    again = await log.append(new(detected("a", 5.0)))
    assert first == again
    partition = log.partition_of("porch")
    (only,) = await log.read("detections", partition, START, 10)
    assert (only.position, only.event) == (first, detected("a"))
    assert await log.newest("detections", partition) == first
    assert await log.oldest("detections", partition) == first


async def test_append_all_keeps_the_order_of_each_partition(log: EventLog) -> None:
    cameras = [camera_in(partition) for partition in range(PARTITIONS)]
    news = [
        new(detected(f"p{number}", camera=cameras[number % PARTITIONS])) for number in range(650)
    ]
    positions = await log.append_all(news)
    for partition in range(PARTITIONS):
        envelopes = await log.read("detections", partition, START, 1000)
        mine = range(partition, len(news), PARTITIONS)
        assert [e.event for e in envelopes] == [news[i].event for i in mine]
        assert [e.position for e in envelopes] == [positions[i] for i in mine]
    assert await log.append_all(news) == positions


async def test_reading_goes_on_after_a_position(log: EventLog) -> None:
    await log.append_all([new(detected(f"p{number}")) for number in range(5)])
    partition = log.partition_of("porch")
    first = await log.read("detections", partition, START, 2)
    rest = await log.read("detections", partition, first[-1].position, 10)
    names = [e.event for e in (*first, *rest)]
    assert names == [detected(f"p{number}") for number in range(5)]
    assert await log.read("detections", partition, rest[-1].position, 10) == []


async def test_an_empty_stream_starts_at_the_start(log: EventLog) -> None:
    assert await log.newest("system", 0) == START
    assert await log.oldest("system", 0) == START
    assert await log.newest("files", 0) == START


async def test_follow_wakes_for_any_stream_and_partition(log: EventLog) -> None:
    cursors = {(s, p): START for s in ("files", "detections") for p in range(PARTITIONS)}
    for turn in range(2 * PARTITIONS):
        camera = camera_in(turn % PARTITIONS)
        reading = asyncio.create_task(log.follow(cursors, count=10, block_ms=10_000))
        await asyncio.sleep(0.01)
        await log.append(new(detected(f"p{turn}", camera=camera)))
        (envelope,) = await reading
        assert envelope.event == detected(f"p{turn}", camera=camera)
        cursors[envelope.stream, envelope.partition] = envelope.position
    assert await log.follow(cursors, count=10, block_ms=20) == []


async def test_follow_without_waiting_reads_every_partition(log: EventLog) -> None:
    cursors = {("files", partition): START for partition in range(PARTITIONS)}
    assert await log.follow(cursors, count=10, block_ms=0) == []
    for partition in range(PARTITIONS):
        await log.append(new(received("a", camera_in(partition)), f"a{partition}"))
    envelopes = await log.follow(cursors, count=10, block_ms=0)
    assert sorted(e.partition for e in envelopes) == list(range(PARTITIONS))


async def test_an_entry_that_does_not_decode_is_read_as_such(log: EventLog) -> None:
    fields = {"id": "e1", "type": "image.recieved/1", "cor": "c", "cau": "", "data": b"\xff{"}
    await log.client.xadd(stream_key(0, "files"), fields)
    (envelope,) = await log.read("files", 0, START, 10)
    event = envelope.event
    assert isinstance(event, UnreadableEntry)
    assert (event.stored_tag, event.stored_version) == ("image.recieved", 1)
    assert event.stored_payload == "\\xff{"
    assert "unknown event type" in event.error


async def test_a_file_is_taken_in_once(log: EventLog) -> None:
    first = intake("a.jpg", "10-1", "aa", new(received("a")))
    assert (await log.take_in(first)).status == "appended"
    assert (await log.take_in(first)).status == "known"
    copy = intake("b.jpg", "10-2", "aa", new(received("b")))
    answer = await log.take_in(copy)
    assert (answer.status, answer.duplicate_of) == ("duplicate", "id-a.jpg-10-1")
    # A duplicate writes nothing, not even the path; telling it does.
    paths = ["a.jpg", "b.jpg", "bad\udcff.jpg"]
    assert await log.known_files("porch", paths) == ["10-1", None, None]
    told = intake("b.jpg", "10-2", None, new(rejected("b")))
    assert (await log.take_in(told)).status == "appended"
    bad = intake("bad\udcff.jpg", "1-1", None, new(rejected("c")))
    assert (await log.take_in(bad)).status == "appended"
    assert await log.known_files("porch", paths) == ["10-1", "10-2", "1-1"]
    assert await log.known_files("porch", []) == []
    partition = log.partition_of("porch")
    tags = [e.tag for e in await log.read("files", partition, START, 10)]
    assert tags == ["image.received", "file.rejected", "file.rejected"]


async def test_the_same_bytes_count_again_after_their_time(log: EventLog) -> None:
    key = f"hsi:{{{log.partition_of('porch')}}}:dedupe:porch:aa"
    await log.take_in(intake("a.jpg", "1", "aa", new(received("a"))))
    assert 290 < await log.client.ttl(key) <= 300
    await log.client.delete(key)
    assert (await log.take_in(intake("b.jpg", "1", "aa", new(received("b"))))).status == "appended"


async def test_groups_start_at_zero_and_backlog_counts(log: EventLog) -> None:
    for partition in range(PARTITIONS):
        await log.append(new(received("a", camera_in(partition)), f"a{partition}"))
    for partition in range(PARTITIONS):
        answer = await log.client.xreadgroup(
            "detect", "one", {stream_key(partition, "files"): ">"}, count=10
        )
        assert answer
        if partition == 0:
            break
    backlog = {entry.group: entry for entry in await log.backlog()}
    assert set(backlog) == set(GROUPS)
    detect = backlog["detect"]
    assert (detect.pending, detect.lag) == (1, PARTITIONS - 1)
    oldest = await log.oldest("files", 0)
    assert detect.oldest_ms == oldest.ms
    assert (backlog["batch"].pending, backlog["batch"].lag) == (0, 0)


async def test_handled_until_stops_at_the_oldest_unhandled_entry(log: EventLog) -> None:
    camera = camera_in(0)
    before = await log.handled_until("batch", 0)
    first = await log.append(new(detected("a", camera=camera)))
    second = await log.append(new(detected("b", camera=camera)))
    assert first.recorded_at >= before
    assert await log.handled_until("batch", 0) == first.recorded_at
    name = stream_key(0, "detections")
    await log.client.xreadgroup("batch", "one", {name: ">"}, count=1)
    assert await log.handled_until("batch", 0) == first.recorded_at
    await log.client.xack(name, "batch", str(first))
    assert await log.handled_until("batch", 0) == second.recorded_at
    await log.client.xreadgroup("batch", "one", {name: ">"}, count=1)
    await log.client.xack(name, "batch", str(second))
    assert await log.handled_until("batch", 0) >= second.recorded_at


async def test_snapshots_are_kept_by_role_and_partition(log: EventLog) -> None:
    assert await log.load_snapshot("batch", 1) is None
    await log.store_snapshot("batch", 1, b"state")
    assert await log.load_snapshot("batch", 1) == b"state"
    assert await log.load_snapshot("batch", 2) is None


async def test_nobody_there_says_so() -> None:
    with pytest.raises(ServiceUnavailableError, match="Redis does not answer"):
        await EventLog.open("redis://127.0.0.1:1")


async def test_an_unusable_address_says_so() -> None:
    with pytest.raises(HsiError, match="REDIS_URL"):
        await EventLog.open("ftp://127.0.0.1")


async def test_a_wrong_password_says_what_to_check(valkey_url: str) -> None:
    scheme, _, rest = valkey_url.partition("://")
    wrong = f"{scheme}://:wrong@{rest.partition('@')[2]}"
    with pytest.raises(ServiceUnavailableError, match="REDIS_PASSWORD"):
        await EventLog.open(wrong)


async def test_an_emptied_log_says_so(log: EventLog) -> None:
    await log.client.delete(stream_key(0, "files"))
    with pytest.raises(HsiError, match="emptied or replaced"):
        await ConsumerGroup(log, "detect", 0, "one").read(1, 1)
