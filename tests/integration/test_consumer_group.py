"""Consumer groups on a real server and on a cluster: exactly one settlement an entry."""

from collections.abc import AsyncIterator

import pytest
from support.logs import all_of, detected, new, opened, received

from domain.errors import PermanentError
from domain.events import EntryParked, ImageReceived
from domain.ids import follow_up_id
from domain.outcomes import Done, Park
from streams.connection import BehindLogError
from streams.consumer import ConsumerGroup, Delivery, follow_ups
from streams.envelope import START, NewEvent
from streams.lease import Lease
from streams.log import EventLog
from streams.names import stream_key

MS = 5


@pytest.fixture(params=["single", "cluster"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    name = {"single": "valkey_url", "cluster": "redis_cluster_url"}[request.param]
    async with opened(str(request.getfixturevalue(name))) as log:
        yield log


async def given(log: EventLog, *pictures: str) -> None:
    await log.append_all([new(received(picture)) for picture in pictures])


def picture(delivery: Delivery) -> str:
    event = delivery.envelope.event
    assert isinstance(event, ImageReceived)
    return event.picture_id


def done(delivery: Delivery) -> tuple[Delivery, Done]:
    return delivery, Done((detected(picture(delivery)),))


async def detections(log: EventLog) -> list[str]:
    return [e.event.picture_id for e in await all_of(log, "detections")]  # type: ignore[attr-defined]


async def test_entries_older_than_the_reader_are_read(log: EventLog) -> None:
    await given(log, "a", "b")
    group = ConsumerGroup(log, "detect", 0, "one")
    deliveries = await group.read(10, MS)
    assert [(picture(d), d.attempts) for d in deliveries] == [("a", 1), ("b", 1)]
    assert await group.read(10, MS) == []


async def test_settling_appends_and_acknowledges_once(log: EventLog) -> None:
    await given(log, "a", "b", "c")
    group = ConsumerGroup(log, "detect", 0, "one")
    deliveries = await group.read(10, MS)
    settled = await group.settle([done(deliveries[0]), (deliveries[1], Done())])
    assert settled.flags == (True, True)
    envelopes = await all_of(log, "detections")
    assert settled.last_positions == {"detections": envelopes[-1].position}
    cause = deliveries[0].envelope
    (follow_up,) = envelopes
    assert follow_up.id == follow_up_id(cause.id, "objects.detected", 0)
    assert (follow_up.causation_id, follow_up.correlation_id) == (cause.id, cause.correlation_id)
    again = await group.settle([done(deliveries[0])])
    assert (again.flags, again.last_positions) == ((False,), {})
    assert await detections(log) == ["a"]
    backlog = next(b for b in await log.backlog() if b.group == "detect")
    assert (backlog.pending, backlog.lag) == (1, 0)


async def test_what_a_zombie_settles_after_a_claim_is_dropped(log: EventLog) -> None:
    await given(log, "a", "b")
    zombie = ConsumerGroup(log, "detect", 0, "zombie")
    heir = ConsumerGroup(log, "detect", 0, "heir")
    mine = await zombie.read(10, MS)
    claimed, following = await heir.claim_stale(0, 10, START)
    assert following == START
    assert [(picture(d), d.attempts) for d in claimed] == [("a", 2), ("b", 2)]
    assert (await zombie.settle([done(d) for d in mine])).flags == (False, False)
    assert await detections(log) == []
    assert (await heir.settle([done(claimed[0])])).flags == (True,)
    assert (await zombie.settle([done(d) for d in mine])).flags == (False, False)
    assert await detections(log) == ["a"]


async def test_one_settlement_may_be_partly_ours(log: EventLog) -> None:
    await given(log, "a", "b", "c")
    one = ConsumerGroup(log, "detect", 0, "one")
    two = ConsumerGroup(log, "detect", 0, "two")
    mine = await one.read(10, MS)
    (_first,), following = await two.claim_stale(0, 1, START)
    assert following != START
    assert (await one.settle([done(d) for d in mine])).flags == (False, True, True)
    assert await detections(log) == ["b", "c"]


async def test_what_is_in_hand_is_not_stale(log: EventLog) -> None:
    await given(log, "a")
    one = ConsumerGroup(log, "detect", 0, "one")
    two = ConsumerGroup(log, "detect", 0, "two")
    await one.read(10, MS)
    assert await two.claim_stale(60_000, 10, START) == ([], START)


async def test_hold_never_takes_an_entry_back(log: EventLog) -> None:
    await given(log, "a", "b")
    one = ConsumerGroup(log, "detect", 0, "one")
    two = ConsumerGroup(log, "detect", 0, "two")
    first, second = await one.read(10, MS)
    positions = [second.envelope.position, first.envelope.position]
    assert await one.hold(positions) == set(positions)
    assert await one.hold([]) == set()
    await two.claim_stale(0, 1, START)
    assert await one.hold(positions) == {second.envelope.position}
    assert (await one.settle([done(first)])).flags == (False,)


async def test_hold_counts_a_delivery_only_when_asked(log: EventLog) -> None:
    await given(log, "a")
    one = ConsumerGroup(log, "detect", 0, "one")
    (delivery,) = await one.read(10, MS)
    await one.hold([delivery.envelope.position])
    await one.hold([delivery.envelope.position], count_delivery=True)
    two = ConsumerGroup(log, "detect", 0, "two")
    (claimed,), _ = await two.claim_stale(0, 10, START)
    assert claimed.attempts == 3


async def test_parking_moves_an_entry_aside(log: EventLog) -> None:
    await given(log, "a")
    group = ConsumerGroup(log, "detect", 0, "one")
    (delivery,) = await group.read(10, MS)
    error = PermanentError("porch/\udcff.jpg is no picture")
    assert (await group.settle([(delivery, Park(error))])).flags == (True,)
    (envelope,) = await all_of(log, "parked")
    event = envelope.event
    assert isinstance(event, EntryParked)
    assert (event.source_stream, event.group, event.attempts) == ("files", "detect", 1)
    assert (event.cause, event.error) == ("PermanentError", "porch/\\udcff.jpg is no picture")
    assert (event.event_tag, event.event_version, event.picture_id) == ("image.received", 1, "a")
    assert event.position == str(delivery.envelope.position)
    assert ImageReceived.TAG in event.event_tag
    assert event.camera_id == "porch"
    assert await group.read(10, MS) == []
    assert (await log.backlog())[0].pending == 0


async def test_what_cannot_be_stored_parks_its_entry(log: EventLog) -> None:
    await given(log, "a", "b")
    group = ConsumerGroup(log, "detect", 0, "one")
    first, second = await group.read(10, MS)
    surrogate = Done((detected("a \ud800"),))
    assert (await group.settle([(first, surrogate), done(second)])).flags == (True, True)
    assert await detections(log) == ["b"]
    (envelope,) = await all_of(log, "parked")
    assert isinstance(envelope.event, EntryParked)
    assert "cannot be stored" in envelope.event.error


async def test_a_lost_lease_settles_and_appends_nothing(log: EventLog) -> None:
    await given(log, "a")
    group = ConsumerGroup(log, "detect", 0, "one")
    (delivery,) = await group.read(10, MS)
    old, heir = Lease(log, "detect", 0), Lease(log, "detect", 0)
    assert await old.acquire()
    assert not await heir.acquire()
    assert not await heir.renew()
    assert await old.append([new(detected("x"))]) is not None
    await old.release()
    assert await heir.acquire()
    assert await old.append([new(detected("y"))]) is None
    assert not await old.renew()
    assert (await group.settle([done(delivery)], lease=old)).flags == (False,)
    await old.release()
    assert await heir.renew()
    assert await detections(log) == ["x"]
    assert (await group.settle([done(delivery)], lease=heir)).flags == (True,)
    assert await detections(log) == ["x", "a"]


async def test_what_was_decided_on_another_end_of_the_log_is_refused(log: EventLog) -> None:
    await given(log, "a")
    group = ConsumerGroup(log, "detect", 0, "one")
    (delivery,) = await group.read(10, MS)
    lease = Lease(log, "detect", 0)
    assert await lease.acquire()
    positions = await lease.append([new(detected("x"))])
    assert positions
    (end,) = positions
    for wrong in (START, end.next()):
        lease.folded = ("detections", wrong)
        with pytest.raises(BehindLogError, match="detections does not end at"):
            await group.settle([done(delivery)], lease=lease)
        with pytest.raises(BehindLogError):
            await lease.append([new(detected("y"))])
    assert await detections(log) == ["x"]
    lease.folded = ("detections", end)
    assert (await group.settle([done(delivery)], lease=lease)).flags == (True,)
    assert await detections(log) == ["x", "a"]
    lease.folded = ("assessments", START)
    assert await lease.append([new(detected("y"))]) is not None, "empty, as it was folded"


async def test_many_entries_settle_in_one_call(log: EventLog) -> None:
    await given(log, *(f"p{number:03}" for number in range(1000)))
    group = ConsumerGroup(log, "detect", 0, "one")
    deliveries = await group.read(1000, MS)
    held = await group.hold([d.envelope.position for d in deliveries])
    assert len(held) == 1000
    assert all((await group.settle([done(d) for d in deliveries])).flags)
    assert await detections(log) == [f"p{number:03}" for number in range(1000)]


async def test_an_entry_removed_from_its_stream_is_let_go(log: EventLog) -> None:
    await given(log, "a", "b")
    one = ConsumerGroup(log, "detect", 0, "one")
    first, _ = await one.read(10, MS)
    await log.client.xdel(stream_key(0, "files"), str(first.envelope.position))
    two = ConsumerGroup(log, "detect", 0, "two")
    claimed, _ = await two.claim_stale(0, 10, START)
    assert [picture(d) for d in claimed] == ["b"]


async def test_follow_ups_of_one_cause_have_ids_of_their_own(log: EventLog) -> None:
    await given(log, "a")
    (delivery,) = await ConsumerGroup(log, "detect", 0, "one").read(1, MS)
    events = (detected("a"), detected("b"), received("c"))
    news: list[NewEvent] = follow_ups(delivery.envelope, events)
    assert len({n.id for n in news}) == 3
    assert news == follow_ups(delivery.envelope, events)
