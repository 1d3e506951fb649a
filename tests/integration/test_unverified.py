"""While the detector is away: a camera that wishes it is told of once an outage, others never."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse
from msgspec.structs import replace
from support import histories
from support.histories import assessed, image, seen
from support.logs import Stage, all_of, new, quick, until
from support.serving import Served, served
from support.serving import until as hear

from agents.services import ServiceWatch
from agents.unverified import Unverified
from domain.errors import PermanentError, ServiceUnavailableError
from domain.events import ActivityUnverified, ImageReceived
from domain.outcomes import Done, Outcome, Park
from runtime.tasks import end
from streams.channel import ChannelOptions
from streams.consumer import ConsumerGroup
from streams.envelope import Envelope, Position
from streams.log import EventLog
from streams.waiting import Waiting

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]

TELLS = "garden"
HOLDS = "garage"


class Detector:
    """Sees nothing in any picture, or does not answer while it is off."""

    on = False

    async def __call__(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        if not self.on:
            raise ServiceUnavailableError("detector", "connection refused")
        return [Done((seen(envelope.event),)) for envelope in envelopes]

    async def check(self) -> str:
        return "tiny answers"


class Wishes:
    """One camera wishes to be told of."""

    def notifies(self, camera_id: str) -> bool:
        return camera_id == TELLS


@asynccontextmanager
async def detecting(log: EventLog, detector: Detector, consumer: str) -> AsyncIterator[Stage]:
    """Run one process's detect stage with its teller, as agents.app puts it together."""
    watch = ServiceWatch(log, "detector", detector.check)
    unverified = Unverified(log, Wishes())
    on_state = unverified.beside(watch.gate_of("detect"))
    options = ChannelOptions(run_size=2, on_state=on_state)
    stop = asyncio.Event()
    telling = asyncio.create_task(unverified.run(stop))
    stage = Stage(log, "detect", consumer, options, handler=detector)
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop()
        await end(telling)


async def told(log: EventLog) -> list[ActivityUnverified]:
    found = await all_of(log, "assessments")
    return [e.event for e in found if isinstance(e.event, ActivityUnverified)]


async def unverified(api: Served, query: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await api.json(f"/api/unverified{query}"))["unverified"]
    return rows


async def test_each_outage_is_told_once_for_a_camera_that_wishes_it(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    detector = Detector()
    first = [image(n, camera) for n in range(1, 5) for camera in (HOLDS, TELLS)]
    async with served(valkey_url, database_url, tmp_path, projecting=True) as api:
        log = api.log
        async with api.client.ws_connect("/ws/events") as socket:
            await hear(socket, "hello")
            await log.append_all([new(picture) for picture in first])
            async with detecting(log, detector, "one"), detecting(log, detector, "two"):
                await heard_and_listed(api, socket, first[1])
                # More of the same outage is not told; what waits is looked at, all of it.
                more = [image(n, TELLS) for n in (11, 12)]
                await log.append_all([new(picture) for picture in more])
                detector.on = True

                async def detected() -> int:
                    return len(await all_of(log, "detections"))

                await until(lambda: is_so(detected, len(first) + len(more)))
                assert len(await told(log)) == 1

                async def settled() -> bool:
                    return bool((await unverified(api))[0]["state"] == "filtered")

                await until(settled)
                # Another outage is another thing to know.
                detector.on = False
                await log.append(new(image(21, TELLS)))
                again = await hear(socket, "unverified_activity")
                assert again["data"]["picture_id"] == image(21, TELLS).picture_id
                assert len(await told(log)) == 2

        async def newest() -> str:
            return str((await unverified(api, "?limit=1"))[0]["picture_id"])

        await until(lambda: is_so(newest, image(21, TELLS).picture_id))
        assert await unverified(api, f"?camera_id={HOLDS}") == []


async def heard_and_listed(
    api: Served, socket: ClientWebSocketResponse, picture: ImageReceived
) -> None:
    message = await hear(socket, "unverified_activity")
    data = message["data"]
    assert (data["camera_id"], data["picture_id"]) == (TELLS, picture.picture_id)
    assert (data["service"], data["reason"]) == ("detector", "service_away")
    assert message["cursor"]

    async def shown() -> bool:
        return [row["id"] for row in await unverified(api)] == [data["id"]]

    await until(shown)
    row = (await unverified(api))[0]
    assert (row["state"], row["event_id"]) == ("pending", None)
    assert row["told_at"] == data["told_at"]


async def is_so(ask: Any, wanted: object) -> bool:
    return bool(await ask() == wanted)


async def test_a_process_that_takes_over_tells_nothing_twice(valkey_url: str) -> None:
    log = await EventLog.open(valkey_url, partitions=1)
    try:
        detector = Detector()
        pictures = [image(1, HOLDS), image(2, TELLS), image(3, TELLS)]
        await log.append_all([new(picture) for picture in pictures])
        async with detecting(log, detector, "one") as stage:

            async def once() -> bool:
                return len(await told(log)) == 1

            await until(once)
            await stage.crash()
        async with detecting(log, detector, "two") as stage:
            await until(lambda: stage.channel.gate.closed)
            await log.append(new(image(4, TELLS)))
            # What the first had in hand is the second's before the detector is back, and no probe
            # is on its way: that one would be looked at first.
            await until(lambda: len(stage.channel.feeds[0]._probes) >= 3)
            detector.on = True

            async def detected() -> int:
                return len(await all_of(log, "detections"))

            await until(lambda: is_so(detected, 4))
        [event] = await told(log)
        assert event.picture_id == pictures[1].picture_id
        looked_at = [e.event.occurred_at for e in await all_of(log, "detections")]
        assert looked_at == [image(n).captured_at for n in (1, 2, 3, 4)]
    finally:
        await log.close()


async def test_nothing_is_said_of_a_picture_that_somebody_has_handled(valkey_url: str) -> None:
    log = await EventLog.open(valkey_url, partitions=1)
    try:
        await log.append_all([new(image(n, TELLS)) for n in (1, 2, 3)])
        group = ConsumerGroup(log, "detect", 0, "one")
        waiting = Waiting(log, "detect", "detections")
        one, two = await group.read(2, 10)
        three = (await log.read("files", 0, two.envelope.position, 1))[0]
        assert await waiting.begin(0) == before(one.envelope.position)
        await group.settle([(one, Done((seen(one.envelope.event),)))])
        assert await waiting.begin(0) == before(two.envelope.position)
        assert not await waiting.tell(one.envelope, telling(one.envelope))
        assert await waiting.tell(two.envelope, telling(two.envelope))
        assert await waiting.tell(three, telling(three))
        assert [event.picture_id for event in await told(log)] == [image(2, TELLS).picture_id]
        # One that cannot be looked at at all ends no outage.
        await group.settle([(two, Park(PermanentError("no picture")))])
        assert await waiting.tell(three, telling(three))
        assert len(await told(log)) == 1
    finally:
        await log.close()


def telling(envelope: Envelope) -> ActivityUnverified:
    event = envelope.event
    assert isinstance(event, ImageReceived)
    return histories.unverified(event)


def before(position: Position) -> Position:
    if position.seq:
        return Position(position.ms, position.seq - 1)
    return Position(position.ms - 1, 2**64 - 1)


async def test_what_was_told_unverified_is_in_the_files_lineage(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    picture = image(1, TELLS)
    async with served(valkey_url, database_url, tmp_path) as api:
        await api.log.append(new(picture))
        waiting = Waiting(api.log, "detect", "detections")
        partition = api.log.partition_of(TELLS)
        [entry] = await api.log.read("files", partition, Position(0, 0), 1)
        assert await waiting.tell(entry, telling(entry))
        await api.project()
        lineage = await api.json(f"/api/files/{picture.file_id}/lineage")
        assert lineage["conclusion"].startswith("Told as unverified at ")
        assert "because the detector was away. Nothing more has been sent" in lineage["conclusion"]
        [path] = lineage["pictures"]
        assert [step["step"] for step in path["steps"]] == ["received", "told"]
        assert path["unverified"]["service"] == "detector"
        assert path["unverified"]["entry"]["causation_id"] == entry.id


async def test_an_assessment_says_itself_whether_it_is_too_old_to_alert(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    old = replace(assessed(image(1)), alert_within_seconds=3600)
    unlimited = assessed(image(2, "garden"))
    async with served(valkey_url, database_url, tmp_path) as api:
        async with api.client.ws_connect("/ws/events") as socket:
            await hear(socket, "hello")
            await api.append(old, unlimited)
            heard = [(await hear(socket, "event"))["data"] for _ in range(2)]
        for data in (*heard, *(await api.json("/api/events"))["events"]):
            wanted = (False, "too_old") if data["id"] == old.event_id else (True, None)
            assert (data["alert"], data["alert_reason"]) == wanted
        lineage = await api.json(f"/api/events/{old.event_id}/lineage")
        [fact] = lineage["assessments"]
        assert (fact["alert"], fact["alert_reason"]) == (False, "too_old")
        assert fact["alert_within_seconds"] == 3600
        assert fact["age_seconds"] > 3600


async def test_an_outage_that_follows_at_once_is_another_one(valkey_url: str) -> None:
    log = await EventLog.open(valkey_url, partitions=1)
    unverified = Unverified(log, Wishes())
    on_state = unverified.beside(lambda *_: None)
    telling = asyncio.create_task(unverified.run(asyncio.Event()))

    async def count() -> int:
        return len(await told(log))

    try:
        await log.append_all([new(image(n, TELLS)) for n in (1, 2)])
        on_state("detector", False, "away")
        await until(lambda: is_so(count, 1))
        [first] = await ConsumerGroup(log, "detect", 0, "one").read(1, 10)
        group = ConsumerGroup(log, "detect", 0, "one")
        await group.settle([(first, Done((seen(first.envelope.event),)))])
        on_state("detector", True, "back")
        on_state("detector", False, "away")
        await until(lambda: is_so(count, 2))
    finally:
        await end(telling)
        await log.close()


async def test_a_picture_is_told_of_once_though_a_later_one_was_told_of_since(
    valkey_url: str,
) -> None:
    log = await EventLog.open(valkey_url, partitions=1)
    try:
        await log.append_all([new(image(n, TELLS)) for n in (1, 2, 3, 4)])
        group = ConsumerGroup(log, "detect", 0, "one")
        waiting = Waiting(log, "detect", "detections")
        one, two, three, four = await group.read(4, 10)
        for asked, seen_then in ((one, three), (two, four), (one, None)):
            assert await waiting.tell(asked.envelope, telling(asked.envelope))
            if seen_then is not None:
                await group.settle([(seen_then, Done((seen(seen_then.envelope.event),)))])
        pictures = [event.picture_id for event in await told(log)]
        assert pictures == [image(1, TELLS).picture_id, image(2, TELLS).picture_id]
    finally:
        await log.close()
