"""An API over real Valkey and PostgreSQL, with real projectors, and stories to tell it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import msgspec
import numpy as np
from aiohttp import ClientResponse, ClientWebSocketResponse
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from agents.project import read_models
from api.access_keys import KeyRing
from api.app import create_app
from api.breaker_words import BreakerWords
from api.broadcast import Broadcaster
from api.clip_maker import ClipMaker
from api.gpu_history import GpuHistory
from api.services import ApiConfig, ApiServices
from api.states import ServiceStates
from api.supervision import Supervision
from api.thumbnails import PictureRenderer
from api.websocket import Limits
from domain import ids
from domain.events import (
    AssessmentRefined,
    Baseline,
    BatchClosed,
    BatchFacts,
    BatchMember,
    Box,
    CameraRegistered,
    Event,
    ImageReceived,
    ObjectFact,
    ObjectsDetected,
    RiskAssessed,
    Signal,
)
from inference.clip_store import ClipStore
from inference.pictures import PictureStore
from projections.database import open_pool
from projections.queries import Queries
from projections.retention import Retention
from projections.retention_queries import RetentionQueries
from projections.runner import Projector
from runtime.tasks import end
from streams.envelope import NewEvent, Position
from streams.log import EventLog

BEGIN = datetime(2025, 12, 30, 12, tzinfo=UTC)


def facts(label: str) -> BatchFacts:
    """Return what the rules were told about a batch with one object."""
    return BatchFacts(
        objects=(ObjectFact(label=label, most_at_once=1, pictures=1, best_score=0.93),),
        picture_count=1,
        dwell_seconds=0.0,
        local_time="2025-12-30 12:00 Tuesday",
        part_of_day="day",
        baseline=Baseline(),
    )


@dataclass(frozen=True)
class Story:
    """The ids of one picture's way to an event."""

    camera_id: str
    file_id: str
    picture_id: str
    batch_id: str
    event_id: str
    events: tuple[Event, ...]


@cache
def drawn(width: int, height: int) -> bytes:
    """Return a JPEG that goes from black to white."""
    slope = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.dstack([np.tile(slope, (height, 1))] * 3)
    _, encoded = cv2.imencode(".jpg", pixels)
    return encoded.tobytes()


def story(
    camera: str,
    number: int = 0,
    *,
    score: int = 45,
    level: str = "medium",
    label: str = "person",
    picture: bytes | None = None,
) -> Story:
    """Tell how picture `number` of a camera became an event, `number` minutes after BEGIN."""
    at = BEGIN + timedelta(minutes=number)
    path = f"{camera}/{number}.jpg"
    sha = sha256(picture).hexdigest() if picture else f"{number:064x}"
    file_id = ids.file_id(camera, path, sha, number)
    picture_id = ids.picture_id(camera, sha, at)
    batch_id = ids.batch_id(camera, picture_id)
    event_id = ids.event_id(batch_id)
    box = Box(label=label, score=0.93, x=64, y=48, width=200, height=300)
    member = BatchMember(
        picture_id=picture_id,
        file_id=file_id,
        uri=f"camera:{path}",
        captured_at=at,
        width=640,
        height=480,
        detections=(box,),
    )
    events: tuple[Event, ...] = (
        ImageReceived(
            camera_id=camera,
            picture_id=picture_id,
            file_id=file_id,
            path=path,
            uri=f"camera:{path}",
            sha256=sha,
            size_bytes=1000,
            width=640,
            height=480,
            captured_at=at,
            captured_from="name",
        ),
        ObjectsDetected(
            camera_id=camera,
            picture_id=picture_id,
            file_id=file_id,
            uri=f"camera:{path}",
            captured_at=at,
            width=640,
            height=480,
            boxes=(box,),
            threshold=0.5,
            model="ssdlite",
            model_version="1",
            engine="embedded",
            fallback=True,
            inference_ms=20.0,
        ),
        BatchClosed(
            camera_id=camera,
            batch_id=batch_id,
            event_id=event_id,
            started_at=at,
            ended_at=at,
            members=(member,),
            reason="idle",
            baseline=Baseline(),
        ),
        replace(
            assessment(camera, number, score=score, level=level, label=label),
            event_id=event_id,
            batch_id=batch_id,
            picture_ids=(picture_id,),
        ),
    )
    return Story(camera, file_id, picture_id, batch_id, event_id, events)


def assessment(
    camera: str, number: int, *, score: int = 45, level: str = "medium", label: str = "person"
) -> RiskAssessed:
    """Return the rules' assessment of picture `number`."""
    at = BEGIN + timedelta(minutes=number)
    picture_id = ids.picture_id(camera, f"{number:064x}", at)
    batch_id = ids.batch_id(camera, picture_id)
    return RiskAssessed(
        camera_id=camera,
        event_id=ids.event_id(batch_id),
        batch_id=batch_id,
        started_at=at,
        ended_at=at,
        stage="final",
        score=score,
        level=level,  # type: ignore[arg-type]  # tests pass the four levels
        floor=10,
        signals=(Signal(name="time_of_day", value="day", points=5, why="it is day"),),
        summary=f"A person at {camera}, picture {number}",
        reasoning="One person by day",
        rules_version="1",
        facts=facts(label),
        picture_ids=(picture_id,),
        close_reason="idle",
    )


def refinement(told: RiskAssessed) -> AssessmentRefined:
    """Return the language model's word on an assessment."""
    return AssessmentRefined(
        camera_id=told.camera_id,
        event_id=told.event_id,
        batch_id=told.batch_id,
        ended_at=told.ended_at,
        stage=told.stage,
        rule_score=told.score,
        model_score=80,
        score=62,
        level="high",
        summary="A person lingers",
        reasoning="They stay long",
        model="tiny",
        prompt_version="1",
        prompt_sha256="0" * 64,
        raw_text="{}",
        tokens_in=100,
        tokens_out=20,
        seconds=1.5,
    )


def new(event: Event) -> NewEvent:
    """Return an event to append, with an id made from all of it."""
    payload = msgspec.json.encode(event).decode()
    new_id = ids.follow_up_id(payload, event.TAG)
    return NewEvent(id=new_id, event=event, correlation_id=new_id)


@dataclass
class Served:
    """A running API with what stands behind it."""

    client: TestClient[Any, Any]
    log: EventLog
    services: ApiServices
    base: Path
    projectors: Sequence[Projector]

    async def append(self, *events: Event) -> list[Position]:
        """Append events and bring the read models up to them."""
        positions = await self.log.append_all([new(event) for event in events])
        await self.project()
        return positions

    async def project(self) -> None:
        """Bring every read model up to the log's end."""
        for projector in self.projectors:
            while await projector.run_once():
                continue

    async def register(self, *cameras: str) -> None:
        """Register cameras, each with a folder of its name."""
        for camera in cameras:
            (self.base / camera).mkdir(exist_ok=True)
        await self.append(
            *(
                CameraRegistered(camera_id=camera, name=camera, folder=camera, source="api")
                for camera in cameras
            )
        )

    async def json(self, path: str, *, status: int = 200, method: str = "GET", **more: Any) -> Any:
        """Ask and return the JSON answer, which must have this status."""
        async with self.client.request(method, path, **more) as response:
            body = await response.json(content_type=None)
            assert response.status == status, (path, response.status, body)
            return body

    async def problem(self, path: str, code: str, *, status: int, **more: Any) -> dict[str, Any]:
        """Ask, and return the problem, which must be this one."""
        method = more.pop("method", "GET")
        async with self.client.request(method, path, **more) as response:
            return await self.is_problem(response, code, status)

    async def is_problem(self, response: ClientResponse, code: str, status: int) -> dict[str, Any]:
        """Check that an answer is this problem and has all parts of one."""
        body: dict[str, Any] = await response.json(content_type=None)
        assert response.status == status, body
        assert response.content_type == "application/problem+json"
        assert body["code"] == code, body
        assert body["status"] == status
        assert body["type"] == f"urn:hsi:problem:{code}"
        assert body["title"]
        assert body["detail"]
        return body

    def picture(self, told: Story, data: bytes) -> None:
        """Put a picture where the story's file lies."""
        path = self.base / next(
            event.path for event in told.events if isinstance(event, ImageReceived)
        )
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


@asynccontextmanager
async def served(
    valkey_url: str,
    database_url: str,
    base: Path,
    *,
    limits: Limits | None = None,
    config: Callable[[ApiConfig], ApiConfig] = lambda config: config,
    projecting: bool = False,
    keys: KeyRing | None = None,
) -> AsyncIterator[Served]:
    """Run an API; with `projecting` the projectors follow the log in the background."""
    async with AsyncExitStack() as stack:
        log = await EventLog.open(valkey_url)
        stack.push_async_callback(log.close)
        pool = await open_pool(database_url, name="test", max_size=6, wait_seconds=1.0)
        stack.push_async_callback(pool.close)
        gpu = GpuHistory(minutes=60, interval_seconds=5)
        states = ServiceStates()
        ring = keys or KeyRing()
        supervision = Supervision()
        breakers = BreakerWords()
        services = ApiServices(
            config=config(ApiConfig(app_name="HSI", app_version="1.2.3", base_folder=base)),
            log=log,
            queries=Queries(pool),
            pictures=PictureRenderer(PictureStore(base, base / "frames")),
            broadcaster=Broadcaster(
                log,
                hear=(gpu.hear, states.hear, ring.hear, supervision.hear, breakers.hear),
            ),
            gpu=gpu,
            keys=ring,
            supervision=supervision,
            breakers=breakers,
            retention=Retention(
                log,
                RetentionQueries(pool),
                Queries(pool),
                PictureStore(base, base / "frames"),
                days=30,
                zone=ZoneInfo("UTC"),
            ),
            clips=ClipMaker(ClipStore(base.parent / f"{base.name}-clips")),
            states=states,
        )
        services.retention.also_delete(services.clips.store)
        stack.callback(services.clips.close)
        models = read_models()
        projectors = [Projector(log, pool, model) for model in models]
        if projecting:
            stop = asyncio.Event()
            tasks = [asyncio.create_task(each.run(stop)) for each in projectors]
            stack.push_async_callback(end, *tasks)
        client = TestClient(TestServer(create_app(services, limits=limits)))
        await client.start_server()
        stack.push_async_callback(client.close)
        yield Served(client, log, services, base, projectors)


async def until(socket: ClientWebSocketResponse, kind: str, *, seconds: float = 5) -> Any:
    """Return the next message of a type, passing over others."""
    while True:
        message = await socket.receive_json(timeout=seconds)
        if message["type"] == kind:
            return message
