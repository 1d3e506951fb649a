"""A detector that refuses some pictures for good, is repaired, and a redrive: events, once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from aiohttp import BodyPartReader, web
from msgspec.structs import replace
from support.detect_service import serve, using
from support.logs import POLICY, Stage, all_of, quick, received, until
from support.serving import Served, new, served

from agents.assess import Assess
from agents.batch import Batch
from agents.cameras import LogCameraDirectory
from agents.detect import Detect
from domain.events import ImageReceived, RiskAssessed
from domain.risk import Bands
from inference.http_detector import HttpDetector
from inference.pictures import PictureStore
from streams.channel import ChannelOptions, each

__all__ = ["quick"]

PICTURES = 6
CAMERA = "porch"


class Service:
    """A /detect service with a fault: it refuses every picture with an odd number."""

    def __init__(self) -> None:
        self.broken = True
        self.asked: list[str] = []

    async def detect(self, request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        name = Path(unquote(part.filename or "")).name
        await part.read()
        self.asked.append(name)
        if self.broken and int(Path(name).stem) % 2:
            return web.json_response({"detail": "an odd picture"}, status=422)
        box = {"x": 10, "y": 10, "width": 50, "height": 90}
        return web.json_response(
            {
                "detections": [{"class": "car", "confidence": 0.8, "bbox": box}],
                "inference_time_ms": 1.0,
                "image_width": 320,
                "image_height": 240,
            }
        )

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"status": "healthy", "model_loaded": True, "model": "odd", "version": "1"}
        )


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        await running.register(CAMERA)
        yield running


def picture(base: Path, number: int) -> ImageReceived:
    """Put a picture into the camera's folder; return the event that says so."""
    path = base / CAMERA / f"{number}.jpg"
    pixels = np.full((240, 320, 3), number * 30, dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    event = received(str(number), CAMERA)
    # One a minute: each is a batch, and an event, of its own.
    return replace(
        event,
        sha256=sha256(path.read_bytes()).hexdigest(),
        captured_at=event.captured_at + timedelta(minutes=number),
    )


async def states(api: Served) -> dict[str, int]:
    found: dict[str, int] = (await api.json("/api/ledger"))["states"]
    return found


async def assessed(api: Served) -> list[str]:
    events = [e.event for e in await all_of(api.log, "assessments")]
    return sorted(e.event_id for e in events if isinstance(e, RiskAssessed) and e.stage == "final")


async def counted(api: Served, wanted: dict[str, int]) -> bool:
    return await states(api) == wanted


@asynccontextmanager
async def pipeline(api: Served, service: Service) -> AsyncIterator[None]:
    """Run the stages from a picture to its assessment, with the service as the detector."""
    batch = Batch(api.log, POLICY)
    cameras = LogCameraDirectory(api.log)
    await cameras.open()
    async with serve(service.detect, service.health) as url, using(HttpDetector(url)) as detector:
        store = PictureStore(api.base, api.base / "frames")
        detect = Detect(detector, store, cameras, 0.5)
        owned = ChannelOptions(on_owned=batch.on_owned)
        assess = each(Assess(cameras, POLICY.zone, Bands(29, 59, 84)))
        async with (
            Stage(api.log, "detect", "d", handler=detect),
            Stage(api.log, "batch", "b", owned, on_run=batch.handle),
            Stage(api.log, "assess", "a", handler=assess),
        ):
            yield


@pytest.mark.usefixtures("quick")
async def test_what_was_refused_becomes_events_once_after_the_repair(api: Served) -> None:
    service = Service()
    async with pipeline(api, service):
        events = [picture(api.base, number) for number in range(PICTURES)]
        await api.log.append_all([new(event) for event in events])
        # The last picture's batch is open: nothing has come behind it to close it.
        await until(lambda: counted(api, {"assessed": 2, "parked": 3, "pending": 1}))
        (group,) = (await api.json("/api/dlq/stats"))["groups"]
        told = (group["cause"], group["entries"], group["model"])
        assert told == ("ModelRefusedError", 3, "odd")
        assert "an odd picture" in group["error"]

        service.broken = False
        service.asked.clear()
        for _ in range(2):
            await api.json("/api/dlq/requeue-all/detection_queue", method="POST")
        await until(lambda: counted(api, {"assessed": 5, "pending": 1}), seconds=30)
        before = await assessed(api)
        assert len(before) == len(set(before)) == 5
        detections = [e.id for e in await all_of(api.log, "detections")]
        assert len(detections) == len(set(detections)) == PICTURES
        # Each was looked at once more, and none of the others.
        assert sorted(service.asked) == ["1.jpg", "3.jpg", "5.jpg"]
        assert (await api.json("/api/dlq/stats"))["total_count"] == 0
