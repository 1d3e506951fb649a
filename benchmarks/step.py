"""Agent step: read, handle, append a follow-up, acknowledge, against peers in the same run.

Every contender takes the same stored entries (objects.detected, about 500 bytes) from one stream:
our agent through faust with one follow-up each and the fenced settle, FastStream's consumer per
message with its acknowledgement, and a bare redis-py loop of XREADGROUP, decode and XACK.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from faststream.redis import RedisBroker, StreamSub

from agents.faust_app import make_app
from benchmarks.support import detected, median, new, servers
from domain.events import BatchMember, ObjectsDetected, PictureBatched
from domain.outcomes import Done, Outcome
from streams.channel import ChannelOptions, StreamChannel
from streams.codec import Codec
from streams.connection import connect
from streams.envelope import Envelope
from streams.log import EventLog
from streams.names import stream_key

ROUNDS = 3


def run(*, full: bool) -> dict[str, float]:
    """Return events a second of each contender (medians of three rounds) and the ratios."""
    count = 100_000 if full else 20_000
    with servers() as embedded:
        assert embedded.redis_url is not None
        rounds = [asyncio.run(_round(embedded.redis_url, count)) for _ in range(ROUNDS)]
    step, raw, faststream = (median([r[i] for r in rounds]) for i in range(3))
    return {
        "agent_step_per_s": step,
        "raw_redis_per_s": raw,
        "faststream_per_s": faststream,
        "ratio_faststream": round(median_ratio(rounds, 0, 2), 2),
        "ratio_raw": round(median_ratio(rounds, 0, 1), 3),
        "events": count,
    }


def median_ratio(rounds: Sequence[tuple[float, ...]], over: int, under: int) -> float:
    """Return the median of a ratio taken round by round."""
    ratios = sorted(r[over] / r[under] for r in rounds)
    return ratios[len(ratios) // 2]


async def _round(url: str, count: int) -> tuple[float, float, float]:
    log = await EventLog.open(url, partitions=1)
    try:
        await log.client.flushall()
    finally:
        await log.close()
    log = await EventLog.open(url, partitions=1)
    try:
        await log.append_all([new(detected(number)) for number in range(count)])
        agent = await _agent_step(log, count)
        raw = await _raw(url, count)
        return agent, raw, await _faststream(url, log, count // 10)
    finally:
        await log.close()


async def _agent_step(log: EventLog, count: int) -> float:
    app = make_app("bench")
    channel = StreamChannel(app, log, "batch", "bench", ChannelOptions())
    done = asyncio.Event()
    handled = 0

    async def handler(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        return [Done((_follow_up(envelope),)) for envelope in envelopes]

    async def runs(stream: Any) -> None:  # noqa: ANN401 - faust's stream
        nonlocal handled
        async for run in stream:
            await channel.handle(run, handler)
            handled += len(run.deliveries)
            if handled >= count:
                done.set()

    app.agent(channel.runs, name="bench")(runs)
    app.finalize()
    await app.start()
    app.flow_control.resume()
    began = time.perf_counter()
    await channel.start()
    await done.wait()
    seconds = time.perf_counter() - began
    await channel.stop()
    await app.stop()
    appended = await log.client.xlen(stream_key(0, "batches"))
    assert appended == count, f"{appended} follow-ups for {count} entries"
    return count / seconds


_MEMBER: list[BatchMember] = []


def _follow_up(envelope: Envelope) -> PictureBatched:
    """Return a ready event: the handler is to cost nothing."""
    event = envelope.event
    assert isinstance(event, ObjectsDetected)
    if not _MEMBER:
        _MEMBER.append(
            BatchMember(
                picture_id=event.picture_id,
                file_id=event.file_id,
                uri=event.uri,
                captured_at=event.captured_at,
                width=event.width,
                height=event.height,
                detections=event.boxes,
            )
        )
    return PictureBatched(
        camera_id=event.camera_id,
        batch_id="batch_bench",
        member=_MEMBER[0],
        detected_at=event.captured_at,
    )


async def _raw(url: str, count: int) -> float:
    key, codec = stream_key(0, "detections"), Codec.of()
    client, _ = await connect(url)
    await client.xgroup_create(key, "raw", id="0")
    began, handled = time.perf_counter(), 0
    while handled < count:
        answer = await client.xreadgroup("raw", "bench", {key: ">"}, count=500)
        entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
        for entry_id, fields in entries:
            codec.decode("detections", 0, entry_id, fields)
        await client.xack(key, "raw", *[entry_id for entry_id, _ in entries])
        handled += len(entries)
    seconds = time.perf_counter() - began
    await client.aclose()
    return count / seconds


async def _faststream(url: str, log: EventLog, count: int) -> float:
    """Consume per message with acknowledgement, from an equal stream in FastStream's format."""
    broker = RedisBroker(url, logger=None)
    done, handled = asyncio.Event(), 0

    @broker.subscriber(stream=StreamSub("bench:faststream", group="bench", consumer="bench"))
    async def handle(message: dict[str, Any]) -> None:
        nonlocal handled
        handled += 1
        if handled >= count:
            done.set()

    await _publish(log, [Codec.of().encode(new(detected(n)))[-1] for n in range(count)])
    # FastStream creates its group at the end of the stream; ours is there first, at the start.
    await log.client.xgroup_create("bench:faststream", "bench", id="0")
    began = time.perf_counter()
    await broker.start()
    try:
        await done.wait()
        seconds = time.perf_counter() - began
    finally:
        await broker.stop()
    return count / seconds


async def _publish(log: EventLog, payloads: Sequence[str | bytes]) -> None:
    pipeline = log.client.pipeline(transaction=False)
    for payload in payloads:
        pipeline.xadd("bench:faststream", {"data": payload})
    await pipeline.execute()
