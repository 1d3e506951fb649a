"""Parked entries for tests: pictures that a real consumer group moves aside for given causes."""

from collections.abc import Mapping, Sequence

from support.logs import all_of, detected, new, received

from domain.errors import PermanentError
from domain.events import EntryDiscarded, EntryParked, EntryRedriven, ImageReceived
from domain.outcomes import Done, Park
from streams.consumer import ConsumerGroup, Delivery
from streams.envelope import START
from streams.log import EventLog
from streams.redrive import DeadLetterId

MS = 5


class BrokenError(PermanentError):
    """A first cause: the model said something else than what was agreed."""

    answer = "<html>busy</html>"


class RefusedError(PermanentError):
    """A second cause."""


class OddError(PermanentError):
    """A third cause."""


CAUSES = (BrokenError, RefusedError, OddError)


async def park(
    log: EventLog, causes: Mapping[str, type[PermanentError]], *, camera: str = "porch"
) -> dict[str, DeadLetterId]:
    """Append a picture a cause and let the group `detect` park it; return the ids by picture."""
    await log.append_all([new(received(name, camera)) for name in causes])
    partition = log.partition_of(camera)
    group = ConsumerGroup(log, "detect", partition, "parker")
    deliveries = await group.read(10_000, MS)
    outcomes = [(d, Park(causes[picture(d)](f"no {picture(d)}"), "m", "1")) for d in deliveries]
    settled = await group.settle(outcomes)
    assert all(settled.flags)
    return await lying(log)


async def lying(log: EventLog) -> dict[str, DeadLetterId]:
    """Return what was parked and not decided about, by picture."""
    parked: dict[str, DeadLetterId] = {}
    for envelope in await all_of(log, "parked"):
        match envelope.event:
            case EntryParked(picture_id=str(name)):
                parked[name] = DeadLetterId(envelope.partition, envelope.position)
            case EntryRedriven(picture_id=str(name)) | EntryDiscarded(picture_id=str(name)):
                parked.pop(name, None)
    return parked


def picture(delivery: Delivery) -> str:
    """Return which picture was delivered."""
    event = delivery.envelope.event
    assert isinstance(event, ImageReceived)
    return event.picture_id


async def pending(log: EventLog, partition: int = 0) -> list[str]:
    """Return the pictures that wait for the group `detect`, redriven or not yet settled."""
    entries = {str(e.position): e for e in await log.read("files", partition, START, 100_000)}
    rows = await log.client.xpending_range(
        f"hsi:{{{partition}}}:files", "detect", min="-", max="+", count=100_000
    )
    events = [entries[row["message_id"].decode()].event for row in rows]
    return [event.picture_id for event in events if isinstance(event, ImageReceived)]


async def finish(
    log: EventLog, partition: int = 0, *, refuse: Sequence[str] = ()
) -> dict[str, int]:
    """Claim what was redriven and settle it, parking what is refused; return the attempts."""
    group = ConsumerGroup(log, "detect", partition, "finisher")
    claimed, _ = await group.claim_stale(60_000, 10_000, START)
    fresh = await group.read(10_000, MS)
    outcomes = [
        (d, Park(RefusedError("again")) if picture(d) in refuse else Done((detected(picture(d)),)))
        for d in [*claimed, *fresh]
        if d.envelope.only_for in ("", "detect")
    ]
    if outcomes:
        await group.settle(sorted(outcomes, key=lambda pair: pair[0].envelope.position))
    return {picture(d): d.attempts for d, _ in outcomes}
