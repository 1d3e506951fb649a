"""The main job as a client lives it: pictures and a video of real people, a detector that looks.

Everything runs as real processes with the embedded detector; the client has nothing but HTTP, a
WebSocket and the camera folders.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from aiohttp import ClientSession, ClientWebSocketResponse
from support.installation import Installation, installed
from support.ledger import file_of
from support.models import demo_picture
from support.watching import eventually

Json = Any


class Client:
    """Someone outside: asks, changes, listens."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def get(self, path: str) -> Json:
        async with self._session.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def content(self, path: str) -> tuple[str, bytes]:
        async with self._session.get(path) as response:
            assert response.status == 200, await response.text()
            return response.content_type, await response.read()

    async def send(self, method: str, path: str, body: Json = None) -> tuple[int, Json]:
        async with self._session.request(method, path, json=body) as response:
            told = await response.read()
            return response.status, (await response.json() if told else None)

    async def events_when(self, enough: Callable[[list[Json]], bool]) -> list[Json]:
        """Return all events, newest first, once they are as wanted."""
        found: list[Json] = []

        async def asked() -> bool:
            found[:] = (await self.get("/api/events?limit=100"))["events"]
            return enough(found)

        await eventually(asked, seconds=60)
        return found

    async def listen(self, cursor: str | None = None) -> ClientWebSocketResponse:
        query = f"?cursor={cursor}" if cursor else ""
        socket = await self._session.ws_connect(f"/ws/events{query}")
        assert (await socket.receive_json(timeout=10))["type"] == "hello"
        return socket


async def told(socket: ClientWebSocketResponse, camera: str) -> Json:
    """Return the next event of a camera that the socket tells."""
    while True:
        message = await socket.receive_json(timeout=60)
        if message["type"] == "event" and message["data"]["camera_id"] == camera:
            return message


def all_closed(events: list[Json]) -> bool:
    return bool(events) and all(event["stage"] == "final" for event in events)


def video() -> bytes:
    """Return five seconds of the yard, as a camera records them."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"hsi-test-{os.getpid()}.mp4"
    frames = [demo_picture(f"yard-1-0{number}.jpg") for number in (1, 4, 7)]
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in frames]
    height, width = pictures[0].shape[:2]  # type: ignore[union-attr]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 4, (width, height))
    for picture in pictures:
        for _ in range(8):
            writer.write(picture)
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


async def test_a_picture_becomes_an_event_that_a_client_is_told_about(
    state_folder: Path, ssdlite_dir: Path
) -> None:
    settings = {"HSI_MODELS_DIR": str(ssdlite_dir), "BATCH_IDLE_TIMEOUT_SECONDS": "1"}
    with installed(state_folder, **settings) as installation:
        await asyncio.to_thread(installation.start)
        async with ClientSession(installation.base_url) as session:
            client = Client(session)
            cursor = await _first_event(installation, client)
            await _a_video(installation, client)
            await _a_camera_is_changed_removed_and_back(installation, client)
            before = await client.events_when(all_closed)
            files = (await client.get("/api/system/stats"))["files"]
        assert await asyncio.to_thread(installation.stop) == 0

        await asyncio.to_thread(installation.start)
        async with ClientSession(installation.base_url) as session:
            client = Client(session)
            assert await client.events_when(lambda events: len(events) >= len(before)) == before
            assert (await client.get("/api/system/stats"))["files"] == files
            socket = await client.listen(cursor)
            missed = [await told(socket, "driveway") for _ in range(1)]
            assert missed[0]["data"]["event_id"] in {event["id"] for event in before}
            await socket.close()
        assert await asyncio.to_thread(installation.stop) == 0


async def _first_event(installation: Installation, client: Client) -> str:
    """A new folder's picture of people arrives on the socket; its chain leads back to the file."""
    socket = await client.listen()
    path = installation.drop("Front Yard", "MDAlarm_1.jpg", demo_picture("yard-1-01.jpg"))
    message = await told(socket, "front_yard")
    data = message["data"]
    assert {*data} >= {"id", "event_id", "batch_id", "camera_id", "risk_score", "risk_level"}
    assert {*data} >= {"summary", "started_at"}
    await socket.close()

    [event] = await client.events_when(lambda events: len(events) == 1)
    assert event["id"] == data["event_id"]
    assert event["risk_score"] == event["rule_score"]
    assert event["engine"] == "rules"
    detail = await client.get(event["links"]["self"])
    labels = [detection["object_type"] for detection in detail["detections"]]
    assert "person" in labels
    assert all(detection["fallback"] for detection in detail["detections"])
    for link in ("image", "thumbnail"):
        kind, content = await client.content(event["links"][link])
        assert kind == "image/jpeg"
        assert content
    kind, content = await client.content(detail["pictures"][0]["links"]["image"])
    assert content == path.read_bytes()
    [file] = detail["files"]
    assert file["path"] == "Front Yard/MDAlarm_1.jpg"

    async def assessed() -> bool:  # The ledger is a read model of its own, with its own pace.
        return bool((await client.get(file["links"]["self"]))["state"] == "assessed")

    await eventually(assessed)
    assert (await client.get(file["links"]["self"]))["pictures"][0]["event_id"] == event["id"]

    camera = await client.get("/api/cameras/front_yard")
    assert (camera["status"], camera["source"]) == ("unregistered", "folder")
    return str(message["cursor"])


async def _a_video(installation: Installation, client: Client) -> None:
    """A recording in a dated folder becomes its frames, and these an event."""
    folder = "Driveway/20260301/record"
    path = installation.drop(folder, "MDalarm_20260301_090000.mp4", video())
    await client.events_when(lambda events: any(e["camera_id"] == "driveway" for e in events))
    file: Json = None

    async def assessed() -> bool:
        nonlocal file
        file = await file_of(installation, path)
        return bool(file["state"] == "assessed")

    await eventually(assessed, seconds=60)
    assert file["media"] == "video"
    assert [picture["state"] for picture in file["pictures"]] == ["assessed"] * 3
    assert file["captured_at"].startswith("2026-03-01T")


async def _a_camera_is_changed_removed_and_back(
    installation: Installation, client: Client
) -> None:
    """Each answer shows its own change; history stays; files of a removed camera bring it back."""
    path = "/api/cameras/front_yard"
    status, changed = await client.send("PATCH", path, {"name": "Yard", "status": "disabled"})
    assert (status, changed["name"], changed["status"]) == (200, "Yard", "disabled")
    off = installation.drop("Front Yard", "off.jpg", demo_picture("yard-1-02.jpg"))

    async def filtered() -> bool:
        file = await file_of(installation, off)
        return (file["state"], file["reason"]) == ("filtered", "camera_disabled")

    await eventually(filtered)
    assert (await client.send("DELETE", path))[0] == 204
    assert (await client.send("GET", path))[0] == 404
    assert (await client.get("/api/events?camera_id=front_yard"))["count"] == 1
    again = installation.drop("Front Yard", "again.jpg", demo_picture("yard-1-03.jpg"))

    async def assessed() -> bool:
        return bool((await file_of(installation, again))["state"] == "assessed")

    await eventually(assessed, seconds=60)
    camera = await client.get(path)
    assert (camera["status"], camera["name"]) == ("unregistered", "Front Yard")
    assert (await client.get("/api/events?camera_id=front_yard"))["count"] == 2
