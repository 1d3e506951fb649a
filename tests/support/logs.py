"""Events, logs and running agents for the tests of the log and of what stands on it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agents.faust_app import make_app
from domain.batching import BatchPolicy
from domain.events import Box, Event, FileRejected, ImageReceived, ObjectsDetected
from domain.ids import follow_up_id
from streams import feed, lease, ownership
from streams.channel import ChannelOptions, Handler, StreamChannel
from streams.envelope import START, Envelope, NewEvent
from streams.log import EventLog

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

POLICY = BatchPolicy(
    window=timedelta(seconds=90),
    idle=timedelta(seconds=30),
    fast_path_labels=frozenset({"person"}),
    fast_path_score=0.90,
    zone=ZoneInfo("UTC"),
)


def box(label: str = "car", score: float = 0.8) -> Box:
    """Return a box of one kind of object."""
    return Box(label=label, score=score, x=1.0, y=2.0, width=30.0, height=40.0)


def detected(
    picture: str, seconds: float = 0.0, *boxes: Box, camera: str = "porch", start: datetime = NOON
) -> ObjectsDetected:
    """Return what a model saw in a picture taken `seconds` after `start`; a car by default."""
    return ObjectsDetected(
        camera_id=camera,
        picture_id=picture,
        file_id=f"file-{picture}",
        uri=f"camera:{camera}/{picture}.jpg",
        captured_at=start + timedelta(seconds=seconds),
        width=640,
        height=480,
        boxes=boxes or (box(),),
        threshold=0.5,
        model="test",
        model_version="1",
        engine="embedded",
        inference_ms=1.0,
    )


def received(picture: str, camera: str = "porch") -> ImageReceived:
    """Return a picture that reached a camera's folder."""
    return ImageReceived(
        camera_id=camera,
        picture_id=picture,
        file_id=f"file-{picture}",
        path=f"{camera}/{picture}.jpg",
        uri=f"camera:{camera}/{picture}.jpg",
        sha256="0" * 64,
        size_bytes=10,
        width=640,
        height=480,
        captured_at=NOON,
        captured_from="mtime",
    )


def rejected(name: str, camera: str = "porch") -> FileRejected:
    """Return a file that could not become a picture."""
    return FileRejected(
        camera_id=camera, file_id=name, path=name, size_bytes=0, reason="empty", detail="0 bytes"
    )


def new(event: Event, name: str = "") -> NewEvent:
    """Wrap an event for append, with an id that follows from the event."""
    base = name or str(getattr(event, "picture_id", "") or getattr(event, "file_id", "x"))
    return NewEvent(id=follow_up_id(base, event.TAG), event=event, correlation_id=base)


async def all_of(log: EventLog, stream: str) -> list[Envelope]:
    """Return everything in a stream, partition by partition."""
    return [
        envelope
        for partition in range(log.partitions)
        for envelope in await log.read(stream, partition, START, 100_000)
    ]


@contextlib.asynccontextmanager
async def opened(url: str, partitions: int = 1) -> AsyncIterator[EventLog]:
    """Open a log and close it at the end."""
    log = await EventLog.open(url, partitions=partitions)
    try:
        yield log
    finally:
        await log.close()


async def until(condition: Callable[[], Awaitable[bool] | bool], *, seconds: float = 15.0) -> None:
    """Return as soon as the condition holds; fail the test when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        if time.monotonic() > end:
            pytest.fail(f"not so within {seconds} s")
        await asyncio.sleep(0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every wait of feeds, gates and leases, so that tests need none."""
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(feed, "STALE_MS", 600)
    monkeypatch.setattr(feed, "BLOCK_MS", 100)
    monkeypatch.setattr(feed, "REDIS_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(ownership, "REDIS_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LEASE_MS", 800)
    monkeypatch.setattr("streams.gate.FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("streams.deadletter.BACKOFF_BASE_SECONDS", 0.02)


class Stage:
    """A faust app with one agent over one channel, as `agents.app` puts it together."""

    def __init__(
        self,
        log: EventLog,
        group: str,
        consumer: str,
        options: ChannelOptions | None = None,
        *,
        handler: Handler | None = None,
        on_run: Callable[[StreamChannel, Any], Awaitable[None]] | None = None,
    ) -> None:
        options = options or ChannelOptions()
        self.app: Any = make_app(f"test-{consumer}")
        self.channel = StreamChannel(self.app, log, group, consumer, options)

        async def runs(stream: Any) -> None:
            async for run in stream:
                if on_run is not None:
                    await on_run(self.channel, run)
                elif handler is not None:
                    await self.channel.handle(run, handler)

        self.app.agent(self.channel.runs, name="test", concurrency=options.concurrency)(runs)

    async def start(self) -> None:
        self.app.finalize()
        await self.app.start()
        self.app.flow_control.resume()
        await self.channel.start()

    async def stop(self) -> None:
        await self.channel.stop()
        await self.app.stop()
        # faust makes its Kafka consumer's thread, which never starts, and leaves its loop open.
        self.app.consumer._thread.thread_loop.close()

    async def __aenter__(self) -> "Stage":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def crash(self) -> None:
        """Let go of everything at once, as kill -9 would: nothing is drained or released."""
        self.channel.drain_seconds = 0.0
        for owner in self.channel.owners:
            owner.owned = False
        await self.stop()


def settled_ids(envelopes: Sequence[Envelope]) -> list[str]:
    """Return what each envelope followed from."""
    return [envelope.causation_id for envelope in envelopes]
