"""Settle: our fenced settlement of runs of 100 against plain pipelined XADD and XACK.

Both contenders take the same stored entries from the same server, in turns: for every run of 100
that the group hands out, 100 follow-ups are appended and 100 entries acknowledged. Ours does it by
`ConsumerGroup.settle`: encoding the follow-ups, one script call that checks the ownership of every
entry and appends and acknowledges as one step. Plain encodes the same follow-ups and sends an XADD
and an XACK for each entry in one pipeline, with no check at all; `ratio_xadd_xack` above 1 says
that ours is faster. For comparison, plain with one XACK a run (`xadd_one_xack_per_s`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from benchmarks.support import detected, new, servers
from domain.events import BatchMember, ObjectsDetected, PictureBatched
from domain.outcomes import Done
from streams.consumer import ConsumerGroup, Delivery, follow_ups
from streams.log import EventLog
from streams.names import stream_key

RUN = 100
ROUNDS = 5

Settle = Callable[[ConsumerGroup, list[Delivery]], Awaitable[None]]


def run(*, full: bool) -> dict[str, float]:
    """Return entries a second of each contender (medians of five rounds) and the ratio."""
    count = 100_000 if full else 10_000
    with servers() as embedded:
        assert embedded.redis_url is not None
        rounds = [asyncio.run(_round(embedded.redis_url, count, turn)) for turn in range(ROUNDS)]
    rates = {
        name: round(count / median(seconds[name] for seconds in rounds)) for name in CONTENDERS
    }
    ratios = [seconds["xadd_xack"] / seconds["settle"] for seconds in rounds]
    return {
        "settle_per_s": rates["settle"],
        "xadd_xack_per_s": rates["xadd_xack"],
        "xadd_one_xack_per_s": rates["xadd_one_xack"],
        "ratio_xadd_xack": round(median(ratios), 2),
        "events": count,
    }


async def _round(url: str, count: int, turn: int) -> dict[str, float]:
    """Return the seconds that each contender took to settle `count` entries."""
    names = list(CONTENDERS)
    order = names[turn % len(names) :] + names[: turn % len(names)]
    return {name: await _contender(url, count, CONTENDERS[name]) for name in order}


async def _contender(url: str, count: int, settle: Settle) -> float:
    log = await EventLog.open(url, partitions=1)
    try:
        await log.client.flushall()
    finally:
        await log.close()
    log = await EventLog.open(url, partitions=1)
    try:
        await log.append_all([new(detected(number)) for number in range(count)])
        group = ConsumerGroup(log, "batch", 0, "bench")
        seconds = 0.0
        while deliveries := await group.read(RUN, 1):
            began = time.perf_counter()
            await settle(group, deliveries)
            seconds += time.perf_counter() - began
        appended = await log.client.xlen(stream_key(0, "batches"))
        pending = (await log.client.xpending(group.key, "batch"))["pending"]
        assert (appended, pending) == (count, 0), f"{appended} follow-ups, {pending} pending"
        return seconds
    finally:
        await log.close()


def _follow_up(delivery: Delivery) -> PictureBatched:
    event = delivery.envelope.event
    assert isinstance(event, ObjectsDetected)
    member = BatchMember(
        picture_id=event.picture_id,
        file_id=event.file_id,
        uri=event.uri,
        captured_at=event.captured_at,
        width=event.width,
        height=event.height,
        detections=event.boxes,
    )
    return PictureBatched(
        camera_id=event.camera_id,
        batch_id="batch_bench",
        member=member,
        detected_at=event.captured_at,
    )


def _add(pipeline: Any, group: ConsumerGroup, delivery: Delivery) -> None:  # noqa: ANN401 - redis-py's
    """Queue the XADD of one follow-up with the fields that ours has."""
    (follow_up,) = follow_ups(delivery.envelope, (_follow_up(delivery),))
    fields = group.log.codec.encode(follow_up)
    pipeline.xadd(
        stream_key(0, follow_up.event.STREAM), dict(zip(fields[::2], fields[1::2], strict=True))
    )


async def _fenced(group: ConsumerGroup, deliveries: list[Delivery]) -> None:
    settled = await group.settle([(d, Done((_follow_up(d),))) for d in deliveries])
    assert all(settled.flags)


async def _plain(group: ConsumerGroup, deliveries: list[Delivery]) -> None:
    pipeline = group.log.client.pipeline(transaction=False)
    for delivery in deliveries:
        _add(pipeline, group, delivery)
        pipeline.xack(group.key, group.group, str(delivery.envelope.position))
    await pipeline.execute()


async def _plain_one_ack(group: ConsumerGroup, deliveries: list[Delivery]) -> None:
    pipeline = group.log.client.pipeline(transaction=False)
    for delivery in deliveries:
        _add(pipeline, group, delivery)
    pipeline.xack(group.key, group.group, *[str(d.envelope.position) for d in deliveries])
    await pipeline.execute()


CONTENDERS: dict[str, Settle] = {
    "settle": _fenced,
    "xadd_xack": _plain,
    "xadd_one_xack": _plain_one_ack,
}
