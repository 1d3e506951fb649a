"""A Watch over a real folder and a real log, and the pictures and videos to drop into it."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from agents.finder import WatchOptions
from agents.intake import IntakeRules
from agents.watch import Watch
from domain.events import Event, FileDuplicated, FileRejected, ImageReceived
from inference.pictures import PictureStore
from streams.envelope import START, Envelope, Position
from streams.log import EventLog

QUICK = WatchOptions(settle_seconds=0.4, rescan_seconds=60.0, retry_seconds=0.2)


@pytest.fixture(params=["native", "polling"])
def options(request: pytest.FixtureRequest) -> WatchOptions:
    """Watch by native events, and by polling."""
    return QUICK if request.param == "native" else polling()


def paths_of(events: Sequence[Event]) -> list[str]:
    """Return the files that events are about, sorted."""
    return sorted(getattr(event, "path", "") for event in events)


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48), *, taken: str | None = None) -> bytes:
    """Make a small picture; every seed gives other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=80, exif=exif)
    return out.getvalue()


def png(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


def mp4(path: Path, *, seconds: float, rate: int = 5) -> bytes:
    """Write a video with one shade of grey a frame, and return its bytes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (160, 120))
    for number in range(round(seconds * rate)):
        writer.write(np.full((120, 160, 3), number % 256, dtype=np.uint8))
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


@dataclass
class Cameras:
    """The cameras that somebody registered before, and those that somebody removed."""

    ids: set[str] = field(default_factory=set)
    removals: dict[str, str] = field(default_factory=dict)

    def known(self, camera_id: str) -> bool:
        return camera_id in self.ids

    def removed_by(self, camera_id: str) -> str | None:
        return self.removals.get(camera_id)


@dataclass
class Watched:
    """What a test drops files into, and reads events from."""

    base: Path
    store: PictureStore
    log: EventLog

    async def envelopes(self, stream: str = "files") -> list[Envelope]:
        found: list[Envelope] = []
        for partition in range(self.log.partitions):
            after: Position = START
            while run := await self.log.read(stream, partition, after, 1000):
                found += run
                after = run[-1].position
        return found

    async def events(self, stream: str = "files") -> list[Event]:
        return [envelope.event for envelope in await self.envelopes(stream)]

    async def until(
        self, condition: Callable[[list[Event]], bool], *, seconds: float = 20.0
    ) -> list[Event]:
        """Follow the `files` stream until `condition` holds; return all its events."""
        async with asyncio.timeout(seconds):
            while True:
                cursors = {
                    ("files", partition): await self.log.newest("files", partition)
                    for partition in range(self.log.partitions)
                }
                events = await self.events()
                if condition(events):
                    return events
                await self.log.follow(cursors, count=1, block_ms=1000)

    async def until_count(self, count: int, *, seconds: float = 20.0) -> list[Event]:
        return await self.until(lambda events: len(events) >= count, seconds=seconds)

    async def one(self, path: str, *, seconds: float = 20.0) -> Event:
        """Wait for the one event about `path` (as it is written in events)."""

        def about(events: Sequence[Event]) -> list[Event]:
            return [event for event in events if getattr(event, "path", None) == path]

        found = about(await self.until(lambda events: bool(about(events)), seconds=seconds))
        assert len(found) == 1, found
        return found[0]

    async def picture(self, path: str) -> ImageReceived:
        event = await self.one(path)
        assert isinstance(event, ImageReceived), event
        return event

    async def rejected(self, path: str) -> FileRejected:
        event = await self.one(path)
        assert isinstance(event, FileRejected), event
        return event

    async def duplicate(self, path: str) -> FileDuplicated:
        event = await self.one(path)
        assert isinstance(event, FileDuplicated), event
        return event


@asynccontextmanager
async def watched(
    url: str,
    folder: Path,
    *,
    options: WatchOptions = QUICK,
    rules: IntakeRules | None = None,
    cameras: Cameras | None = None,
) -> AsyncIterator[Watched]:
    """Run a Watch over `folder`/cameras until the block ends; it must end without an error."""
    base = folder / "cameras"
    base.mkdir(parents=True, exist_ok=True)
    store = PictureStore(base, folder / "frames")
    log = await EventLog.open(url)
    watch = Watch(log, store, cameras or Cameras(), rules=rules, options=options)
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop))
    try:
        yield Watched(base, store, log)
        assert not task.done(), task
    finally:
        stop.set()
        try:
            await asyncio.wait_for(task, 10)
        finally:
            await log.close()


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, seconds: float = 20.0
) -> None:
    """Ask again and again until it holds: for what only a file or a log line tells."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.01)


def polling(options: WatchOptions = QUICK) -> WatchOptions:
    return replace(options, polling=True, polling_interval_seconds=0.1)


def drop(path: Path | bytes, data: bytes) -> None:
    """Write a file under a temporary name and rename it, as a careful camera does."""
    target = os.fsencode(path)
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, b"." + name[:200] + b".part")
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, target)
