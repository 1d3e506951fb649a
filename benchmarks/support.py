"""What the benchmarks share: servers of their own, generated events, medians."""

import contextlib
import math
import shutil
import statistics
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from domain import ids
from domain.events import Box, ImageReceived, ObjectsDetected
from runtime.embedded import EmbeddedServers
from streams.envelope import NewEvent

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@contextlib.contextmanager
def servers(*, postgres: bool = False) -> Iterator[EmbeddedServers]:
    """Start embedded servers in a folder of their own; both end with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-bench-", dir="/tmp"))
    folder.chmod(0o755)
    running = EmbeddedServers.start(folder / "state", want_postgres=postgres)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def picture(number: int, cameras: int = 8) -> ImageReceived:
    """Return the `number`-th generated picture of one of `cameras` cameras."""
    camera = f"camera_{number % cameras}"
    sha256 = f"{number:064x}"
    captured_at = BEGIN + timedelta(seconds=number // cameras)
    path = f"{camera}/{number:08}.jpg"
    return ImageReceived(
        camera_id=camera,
        picture_id=ids.picture_id(camera, sha256, captured_at),
        file_id=ids.file_id(camera, path, sha256, number),
        path=path,
        uri=f"camera:{path}",
        sha256=sha256,
        size_bytes=300_000,
        width=1920,
        height=1080,
        captured_at=captured_at,
        captured_from="exif",
    )


def detected(number: int, cameras: int = 8) -> ObjectsDetected:
    """Return two detections in the `number`-th generated picture (about 500 bytes stored)."""
    source = picture(number, cameras)
    return ObjectsDetected(
        camera_id=source.camera_id,
        picture_id=source.picture_id,
        file_id=source.file_id,
        uri=source.uri,
        captured_at=source.captured_at,
        width=1920,
        height=1080,
        boxes=(
            Box(label="person", score=0.75, x=100.5, y=200.25, width=80.0, height=220.5),
            Box(label="car", score=0.625, x=900.0, y=500.0, width=300.5, height=150.25),
        ),
        threshold=0.5,
        model="bench",
        model_version="1",
        engine="embedded",
        inference_ms=1.0,
    )


def new(event: ImageReceived | ObjectsDetected) -> NewEvent:
    """Wrap a generated event for appending."""
    return NewEvent(id=uuid.uuid4().hex, event=event, correlation_id=event.file_id)


def median(values: list[float]) -> float:
    """Return the median, rounded to a whole number."""
    return round(statistics.median(values))


def interval(values: list[float]) -> tuple[float, float]:
    """Return between which values the median lies with 95 % (its order statistics)."""
    ascending = sorted(values)
    middle, half = len(ascending) / 2, 0.98 * math.sqrt(len(ascending))
    last = min(len(ascending) - 1, math.ceil(middle + half))
    return ascending[max(0, math.floor(middle - half))], ascending[last]
