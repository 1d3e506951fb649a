"""Redriving and discarding on a real server and on a cluster: each parked entry, once."""

from collections.abc import AsyncIterator

import pytest
from support.logs import all_of, opened
from support.parking import CAUSES, BrokenError, finish, lying, park, pending

from domain.events import EntryDiscarded, EntryParked, EntryRedriven
from domain.ids import follow_up_id
from domain.outcomes import Done
from streams.consumer import ConsumerGroup
from streams.deadletter import outcome_unasked
from streams.envelope import Position
from streams.failures import Failed
from streams.log import EventLog
from streams.names import stream_key
from streams.redrive import BadDeadLetterIdError, DeadLetterId, DeadLetters


@pytest.fixture(params=["single", "cluster"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    name = {"single": "valkey_url", "cluster": "redis_cluster_url"}[request.param]
    async with opened(str(request.getfixturevalue(name))) as log:
        yield log


async def test_the_group_gets_the_very_entry_and_nobody_else_sees_a_thing(log: EventLog) -> None:
    ids = await park(log, {"a": BrokenError, "b": BrokenError})
    files = await all_of(log, "files")
    decided = await DeadLetters(log).redrive(ids["a"], actor="me")
    assert decided.verdict == "redriven"
    assert await all_of(log, "files") == files
    assert await pending(log) == ["a"]
    assert set(await lying(log)) == {"b"}
    said = (await all_of(log, "parked"))[-1]
    assert said.position == decided.position
    assert isinstance(said.event, EntryRedriven)
    assert (said.event.actor, said.event.cause, said.event.group) == (
        "me",
        "BrokenError",
        "detect",
    )
    assert (said.event.picture_id, said.event.file_id) == ("a", "file-a")
    # It counts as a first try, and what follows has the id that a first try gives.
    assert await finish(log) == {"a": 1}
    (follow_up,) = await all_of(log, "detections")
    assert follow_up.id == follow_up_id(files[0].id, "objects.detected")
    assert await pending(log) == []


async def test_a_second_redrive_or_a_late_discard_does_nothing(log: EventLog) -> None:
    ids = await park(log, {"a": BrokenError, "b": BrokenError})
    letters = DeadLetters(log)
    assert (await letters.redrive(ids["a"])).verdict == "redriven"
    assert (await letters.discard(ids["b"])).verdict == "discarded"
    before = await all_of(log, "parked")
    for wanted in (ids["a"], ids["b"]):
        assert (await letters.redrive(wanted)).verdict == "already"
        assert (await letters.discard(wanted)).verdict == "already"
    await finish(log)
    assert (await letters.redrive(ids["a"])).verdict == "already"
    assert await all_of(log, "parked") == before
    assert isinstance(before[-1].event, EntryDiscarded)
    assert len(await all_of(log, "detections")) == 1


async def test_what_failed_before_a_redrive_is_not_told_of_the_tries_behind_it(
    log: EventLog,
) -> None:
    ids = await park(log, {"a": BrokenError})
    group = ConsumerGroup(log, "detect", 0, "died before it could forget")
    (file,) = await all_of(log, "files")
    old = Failed(file.position, 4, BrokenError("old"), 1.0)
    await group.failures.note([old])
    assert [len(known) for known in await group.failures.known([file.position])] == [1]
    await DeadLetters(log).redrive(ids["a"])
    await finish(log, refuse=["a"])
    (*_, again) = await all_of(log, "parked")
    assert isinstance(again.event, EntryParked)
    assert again.event.failures == ()


async def test_parked_again_it_is_another_dead_letter_with_another_id(log: EventLog) -> None:
    letters = DeadLetters(log)
    first = await park(log, {"a": BrokenError})
    await letters.redrive(first["a"])
    await finish(log, refuse=["a"])
    again = await lying(log)
    assert again["a"] != first["a"]
    ids = [e.id for e in await all_of(log, "parked")]
    assert len(set(ids)) == len(ids) == 3
    assert (await letters.redrive(first["a"])).verdict == "already"
    assert (await letters.redrive(again["a"])).verdict == "redriven"
    await finish(log)
    assert await lying(log) == {}
    assert len(await all_of(log, "detections")) == 1


async def test_one_cause_goes_and_the_others_stay(log: EventLog) -> None:
    causes = {f"{cause.__name__}-{n}": cause for cause in CAUSES for n in range(50)}
    ids = await park(log, causes)
    letters = DeadLetters(log)
    mine = [name for name, cause in causes.items() if cause is BrokenError]
    assert {(await letters.redrive(ids[name])).verdict for name in mine} == {"redriven"}
    assert sorted(await pending(log)) == sorted(mine)
    assert sorted(await lying(log)) == sorted(set(causes) - set(mine))
    assert set(await finish(log)) == set(mine)
    assert len(await all_of(log, "detections")) == 50


async def test_an_original_that_was_trimmed_is_appended_anew_for_its_group(log: EventLog) -> None:
    ids = await park(log, {"a": BrokenError})
    (original,) = await all_of(log, "files")
    await log.client.xtrim(stream_key(0, "files"), maxlen=0, approximate=False)
    assert (await DeadLetters(log).redrive(ids["a"])).verdict == "redriven"
    (anew,) = await all_of(log, "files")
    assert (anew.id, anew.event, anew.occurred_at) == (
        original.id,
        original.event,
        original.occurred_at,
    )
    assert anew.correlation_id == original.correlation_id
    assert anew.only_for == "detect"
    assert outcome_unasked(anew, 1, "detect") is None
    assert outcome_unasked(anew, 1, "another") == Done(passed_by=True)
    assert await finish(log) == {"a": 1}
    assert (await DeadLetters(log).redrive(ids["a"])).verdict == "already"
    (follow_up,) = await all_of(log, "detections")
    assert follow_up.id == follow_up_id(original.id, "objects.detected")


async def test_bytes_that_do_not_decode_come_back_as_they_were(log: EventLog) -> None:
    fields = {"id": "e_x", "type": "camera.exploded/1", "cor": "c", "cau": "", "data": b"\xff{"}
    await log.client.xadd(stream_key(0, "files"), fields)
    group = ConsumerGroup(log, "detect", 0, "one")
    (delivery,) = await group.read(1, 5)
    outcome = outcome_unasked(delivery.envelope, 1, "detect")
    assert outcome is not None
    await group.settle([(delivery, outcome)])
    (parked,) = await all_of(log, "parked")
    wanted = DeadLetterId(0, parked.position)
    assert (await DeadLetters(log).redrive(wanted)).verdict == "redriven"
    ((again,), _) = await group.claim_stale(60_000, 10, Position(0, 0))
    assert again.envelope == delivery.envelope


async def test_what_is_not_there_or_in_somebodys_hands_is_left_alone(log: EventLog) -> None:
    letters = DeadLetters(log)
    ids = await park(log, {"a": BrokenError})
    assert (await letters.redrive(DeadLetterId(0, Position(1, 0)))).verdict == "gone"
    assert (await letters.redrive(DeadLetterId(9, ids["a"].position))).verdict == "gone"
    assert (await letters.discard(DeadLetterId(0, Position(1, 0)))).verdict == "gone"
    assert set(await lying(log)) == {"a"}
    # Somebody has taken the entry up by hand: it is not torn from them.
    (entry,) = await all_of(log, "files")
    await log.client.xclaim(
        stream_key(0, "files"), "detect", "them", 0, [str(entry.position)], force=True
    )
    assert (await letters.redrive(ids["a"])).verdict == "pending"
    assert set(await lying(log)) == {"a"}


def test_ids_are_read_back_and_others_are_refused() -> None:
    wanted = DeadLetterId(2, Position(1767225600000, 3))
    assert str(wanted) == "2-1767225600000-3"
    assert DeadLetterId.parse(str(wanted)) == wanted
    for text in ("", "1-2", "1-2-3-4", "a-1-2", "1--2", "1-2-³", "1-2-" + "9" * 30):
        with pytest.raises(BadDeadLetterIdError):
            DeadLetterId.parse(text)


async def test_the_parked_event_names_the_model(log: EventLog) -> None:
    await park(log, {"a": BrokenError})
    (envelope,) = await all_of(log, "parked")
    assert isinstance(envelope.event, EntryParked)
    assert (envelope.event.model, envelope.event.model_version) == ("m", "1")
