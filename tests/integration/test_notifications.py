"""From what alerts to a message: once in the log, at least once on the wire, and what it tells."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from aiohttp import web
from msgspec.structs import replace
from support.histories import assessed, image, refined, unverified
from support.logs import all_of, new, opened, quick, until
from support.notifying import (
    GROUPS,
    RULES,
    Cameras,
    alerts,
    clock,
    deciding,
    done,
    of,
    requested,
    sending,
    webhook_of,
)
from support.sink import Sink

from agents.notify import Alert, Notify
from domain.events import (
    EntryParked,
    Event,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
    RiskAssessed,
)
from domain.ids import notification_id
from domain.outcomes import Retry
from streams.deadletter import is_outage
from streams.log import EventLog
from streams.redrive import DeadLetterId, DeadLetters

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().open() as opened_sink:
        yield opened_sink


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as founded:
        await founded.use_groups(GROUPS)
        yield founded


async def told(log: EventLog, *events: Event) -> None:
    await log.append_all([new(event, f"{number}") for number, event in enumerate(events)])


# --- what is told -------------------------------------------------------------------------------


async def test_an_event_is_told_once_whatever_is_said_of_it_again(
    log: EventLog, sink: Sink
) -> None:
    first = assessed(image(1), stage="fast_path", score=70)
    whole = replace(assessed(image(1), image(2), score=75), is_fast_path=True)
    whole = replace(whole, event_id=first.event_id, batch_id=first.batch_id)
    other = assessed(image(50, "garage"), score=5)
    await told(log, first, refined(first), whole, refined(whole), other)
    async with deciding(log), sending(log, sink):
        await until(lambda: done(log))
    events = await alerts(log)
    wanted = of(events, NotificationRequested)
    assert {each.event_id for each in wanted} == {first.event_id, other.event_id}
    assert {each.notification_id for each in of(events, NotificationSent)} == set(sink.keys)
    assert len(sink.keys) == len(events) / 2 == 2
    body = dict(sink.came)[notification_id(first.event_id, "webhook")]
    assert body == {
        "id": notification_id(first.event_id, "webhook"),
        "type": "event",
        "event_id": first.event_id,
        "camera_id": first.camera_id,
        "camera": "Front Door",
        "level": "high",
        "score": 70,
        "summary": "rules fast_path 70",
        "reasons": ["a person was seen (+70)"],
        "occurred_at": first.ended_at.isoformat().replace("+00:00", "Z"),
        "late": True,
        "unverified": False,
        "links": {
            "event": f"/api/events/{first.event_id}",
            "lineage": f"/api/events/{first.event_id}/lineage",
            "image": f"/api/pictures/{first.picture_ids[0]}/image",
        },
    }


async def test_whoever_comes_first_tells_and_what_is_too_old_tells_nobody(
    log: EventLog, sink: Sink
) -> None:
    """The fast path came too late, the whole batch did not: it tells. A limit of old: nobody."""
    soon = datetime.now(UTC)

    def aged(event: RiskAssessed, seconds: float) -> RiskAssessed:
        return replace(event, ended_at=soon - timedelta(seconds=seconds), alert_within_seconds=600)

    first = aged(assessed(image(1), stage="fast_path"), 700)
    whole = replace(aged(assessed(image(1)), 100), is_fast_path=True)
    picture = image(9, "garden")
    await told(log, first, whole, aged(assessed(image(5)), 601), unverified(picture))
    async with deciding(log), sending(log, sink):
        await until(lambda: done(log))
    bodies = [body for _, body in sink.came]
    assert {body["event_id"] for body in bodies} == {whole.event_id, None}
    (blind,) = [body for body in bodies if body["unverified"]]
    assert (blind["type"], blind["level"], blind["score"]) == ("unverified", None, None)
    assert blind["links"]["lineage"] == f"/api/files/{picture.file_id}/lineage"
    assert "nobody has looked at it" in blind["summary"]
    assert [body["late"] for body in bodies if not body["unverified"]] == [False]


async def test_what_stood_undecided_for_too_long_wakes_nobody(log: EventLog, sink: Sink) -> None:
    """A webhook that is set up later does not hear of everything that ever happened."""
    await told(log, *(assessed(image(n)) for n in range(20)))
    async with deciding(log, lambda: clock() + timedelta(seconds=3660)), sending(log, sink):
        await until(lambda: done(log))
    assert (await alerts(log), sink.came) == ([], [])


# --- sent at least once, with one id; told once -------------------------------------------------


async def test_a_message_whose_sender_dies_is_sent_again_with_its_id_and_told_once(
    log: EventLog, sink: Sink
) -> None:
    arrived, hold = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await hold.wait()
        return web.Response(status=200)

    await told(log, assessed(image(1)))
    async with deciding(log):
        await until(lambda: requested(log))
    sink.answer = held
    async with sending(log, sink, "one") as one:
        await arrived.wait()
        await one.crash()
    hold.set()
    async with sending(log, sink, "two"):
        await until(lambda: done(log))
    assert len(sink.keys) == 2
    assert len(set(sink.keys)) == 1
    assert sink.came[0] == sink.came[1]
    events = await alerts(log)
    assert [type(event) for event in events] == [NotificationRequested, NotificationSent]


async def test_a_decision_whose_settlement_is_lost_is_made_again_and_is_the_same(
    log: EventLog, sink: Sink
) -> None:
    first = assessed(image(1), stage="fast_path")
    whole = replace(assessed(image(1)), is_fast_path=True)
    await told(log, first, whole)
    decide = Alert(log, Cameras(), RULES)
    entries = await all_of(log, "assessments")
    # Both are handled twice, as by processes that died before they settled, in any order.
    answers = [await decide(entries[at]) for at in (1, 0, 1, 0)]
    assert [len(answer.events) for answer in answers] == [1, 0, 1, 0]  # type: ignore[union-attr]
    assert answers[0] == answers[2]


async def test_a_receiver_that_stumbles_gets_it_again(log: EventLog, sink: Sink) -> None:
    sink.answers = [500, 500, 408, 200]
    await told(log, assessed(image(1)))
    async with deciding(log), sending(log, sink):
        await until(lambda: done(log))
    assert len(sink.keys) == 4
    (sent,) = of(await alerts(log), NotificationSent, NotificationFailed)
    assert (sent.status, sent.notification_id) == (200, sink.keys[0])


async def test_a_receiver_that_is_away_is_waited_for_and_costs_no_attempt(log: EventLog) -> None:
    sink = Sink()  # Bound, and not listening: connections are refused.
    await told(log, *(assessed(image(n)) for n in range(4)))
    async with deciding(log), sending(log, sink) as stage:
        await until(lambda: stage.channel.gate.failures > 3)
        assert stage.channel.gate.service == "webhook"
        async with sink.open():
            await until(lambda: done(log))
    events = await alerts(log)
    assert len(of(events, NotificationSent)) == len(set(sink.keys)) == 4
    assert of(events, NotificationFailed) == []
    assert await all_of(log, "parked") == []


async def test_a_message_that_a_receiver_is_slow_about_holds_up_no_other(
    log: EventLog, sink: Sink
) -> None:
    others = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if len(sink.came) == 1:
            await others.wait()
        elif len(sink.came) == 5:
            others.set()
        return web.Response(status=500 if len(sink.came) == 2 else 200)

    sink.answer = slow
    await told(log, *(assessed(image(n)) for n in range(5)))
    async with deciding(log), sending(log, sink):
        await until(lambda: done(log))
    assert (len(sink.keys), len(set(sink.keys))) == (6, 5)
    assert len(of(await alerts(log), NotificationSent)) == 5


async def test_a_receiver_that_says_when_it_comes_back_is_left_alone_until_then(
    log: EventLog, sink: Sink
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "17"})

    sink.answer = busy
    await told(log, assessed(image(1)))
    async with deciding(log):
        await until(lambda: requested(log))
    webhook = webhook_of(sink)
    outcome = await Notify(webhook)((await all_of(log, "alerts"))[0])
    await webhook.close()
    assert isinstance(outcome, Retry)
    assert (outcome.after, is_outage(outcome)) == (17.0, True)


async def test_what_is_given_up_is_told_lies_among_the_dead_letters_and_can_be_redriven(
    log: EventLog, sink: Sink
) -> None:
    sink.answers = [410, *[500] * 5]
    await told(log, assessed(image(1)))
    letters = DeadLetters(log)
    async with deciding(log), sending(log, sink):
        for round_, (status, attempts) in enumerate(((410, 1), (500, 5))):
            await until(lambda: done(log))
            parked = (await all_of(log, "parked"))[-1]
            failed = of(await alerts(log), NotificationFailed)
            assert len(failed) == round_ + 1
            assert isinstance(parked.event, EntryParked)
            assert (parked.event.group, parked.event.attempts) == ("notify", attempts)
            assert failed[-1].status == status
            assert "verySecretPart" not in parked.event.error + failed[-1].reason
            decided = await letters.redrive(DeadLetterId(parked.partition, parked.position))
            assert decided.verdict == "redriven"
            await until(partial(came_more, sink, len(sink.came)))
        await until(lambda: done(log))
    assert len(of(await alerts(log), NotificationSent)) == 1
    assert len(set(sink.keys)) == 1


def came_more(sink: Sink, before: int) -> bool:
    return len(sink.came) > before
