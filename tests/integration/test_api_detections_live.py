"""/ws/detections, what a key for some cameras hears, and that each message is described."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from msgspec.structs import replace
from support.asyncapi import Described, checking
from support.serving import BEGIN, Served, assessment, new, refinement, served, story, until

from api.access_keys import KeyRing, digest_of
from domain.events import (
    SYSTEM,
    ActivityUnverified,
    Box,
    CameraRemoved,
    Event,
    EventReviewed,
    ObjectsDetected,
    SceneRestored,
    ServiceStateChanged,
)

ADMIN = "an-admin-key-of-this-test"


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Described:
    return checking(monkeypatch)


@pytest.fixture
async def api(
    valkey_url: str, database_url: str, tmp_path: Path, described: Described
) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


def detected(camera: str, number: int, **more: Any) -> ObjectsDetected:
    """Return what a model saw in picture `number` of a camera."""
    (event,) = (each for each in story(camera, number).events if isinstance(each, ObjectsDetected))
    return replace(event, **more)


async def take(socket: ClientWebSocketResponse, count: int) -> list[Any]:
    return [await until(socket, "detection") for _ in range(count)]


def pictures(messages: list[Any]) -> list[str]:
    return [message["data"]["picture_id"] for message in messages]


async def test_one_message_a_picture_with_its_boxes_above_the_threshold(api: Served) -> None:
    sure = Box(label="person", score=0.9, x=1, y=2, width=3, height=4)
    also = Box(label="dog", score=0.5, x=5, y=6, width=7, height=8)
    unsure = Box(label="cat", score=0.49, x=0, y=0, width=1, height=1)
    seen = detected("front", 1, boxes=(sure, also, unsure))
    async with api.client.ws_connect("/ws/detections") as socket:
        await until(socket, "hello")
        nothing = detected("front", 0, boxes=(unsure,))
        await api.append(nothing, *story("front", 2).events[:1], seen)
        message = await until(socket, "detection")
    data = message["data"]
    assert (data["picture_id"], data["camera_id"]) == (seen.picture_id, "front")
    assert (data["model"], data["fallback"], data["threshold"]) == ("ssdlite", True, 0.5)
    objects = data["detections"]
    assert [(each["object_type"], each["confidence"]) for each in objects] == [
        ("person", 0.9),
        ("dog", 0.5),
    ]
    for each in objects:
        row = await api.json(f"/api/detections/{each['id']}")
        assert {name: row[name] for name in each} == each
    for link in ("file", "camera"):
        assert data["links"][link].startswith("/api/")
    assert data["links"]["thumbnail"] == f"/api/pictures/{seen.picture_id}/thumbnail"


async def test_a_client_that_was_away_gets_what_it_missed(api: Served) -> None:
    events = [detected(camera, n) for n in range(30) for camera in ("front", "yard")]
    async with api.client.ws_connect("/ws/detections") as socket:
        await until(socket, "hello")
        for event in events[:10]:
            await api.log.append(new(event))
        seen = await take(socket, 10)
    await api.log.append_all([new(event) for event in events[10:]])
    async with api.client.ws_connect(f"/ws/detections?cursor={seen[-1]['cursor']}") as socket:
        missed = await take(socket, 50)
        assert (await until(socket, "resumed"))["count"] == 50
    assert sorted(pictures(seen + missed)) == sorted(event.picture_id for event in events)
    async with api.client.ws_connect(f"/ws/events?cursor={seen[-1]['cursor']}") as socket:
        assert (await until(socket, "error"))["code"] == "invalid_cursor"


async def test_a_key_for_one_camera_hears_of_that_camera(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    ring = KeyRing([digest_of(ADMIN)])
    async with served(
        valkey_url,
        database_url,
        tmp_path,
        keys=ring,
        config=lambda config: changed(config, api_key_enabled=True),
    ) as api:
        body = {"name": "Door", "role": "viewer", "cameras": ["front"]}
        by_admin = {"X-API-Key": ADMIN}
        made = await api.json("/api/keys", method="POST", json=body, headers=by_admin, status=201)
        by_key = {"X-API-Key": made["key"]}
        cursors = {}
        for path, kind, events in (
            ("/ws/detections", "detection", [detected(c, 1) for c in ("yard", "front")]),
            ("/ws/events", "event", [assessment(c, 1) for c in ("yard", "front")]),
        ):
            async with api.client.ws_connect(path, headers=by_key) as socket:
                cursors[path] = (await until(socket, "hello"))["cursor"]
                await api.log.append_all([new(event) for event in events])
                message = await socket.receive_json(timeout=5)
                assert (message["type"], message["data"]["camera_id"]) == (kind, "front")
            where = f"{path}?cursor={cursors[path]}"
            async with api.client.ws_connect(where, headers=by_key) as socket:
                await until(socket, "hello")
                again = await socket.receive_json(timeout=5)
                assert again["data"]["camera_id"] == "front"
                assert (await socket.receive_json(timeout=5))["count"] == 1
        refused = await api.client.ws_connect("/ws/system", headers=by_key)
        assert (await refused.receive(timeout=5)).data == 1008
        # A key that is revoked takes along what it let in, and nothing else.
        async with (
            api.client.ws_connect("/ws/events", headers=by_key) as socket,
            api.client.ws_connect("/ws/events", headers=by_admin) as stays,
        ):
            await until(socket, "hello")
            await until(stays, "hello")
            await api.client.delete(f"/api/keys/{made['id']}", headers=by_admin)
            closed = await socket.receive(timeout=5)
            assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1008)
            await stays.send_str("ping")
            await until(stays, "pong")


def happenings(number: int) -> list[Event]:
    """Return one of everything that some channel tells of."""
    told = assessment("front", number)
    picture = detected("front", number)
    unverified = ActivityUnverified(
        camera_id="front",
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        captured_at=BEGIN,
        service="detector",
        reason="service_away",
    )
    down = ServiceStateChanged(
        camera_id=SYSTEM,
        service=f"service-{number}",
        status="unhealthy",
        message="connection refused",
        changed_at=BEGIN,
    )
    review = EventReviewed(camera_id="front", event_id=told.event_id, reviewed=True)
    removed = CameraRemoved(camera_id=f"gone-{number}")
    turned = SceneRestored(
        camera_id="front", change_ids=("x",), picture_id=f"back-{number}", captured_at=BEGIN
    )
    return [told, refinement(told), unverified, review, removed, turned, picture, down]


async def test_every_message_that_is_described_is_sent_and_as_described(
    api: Served, described: Described
) -> None:
    await api.append(*happenings(0))
    for number, channel in enumerate(("events", "system", "detections"), 1):
        async with api.client.ws_connect(f"/ws/{channel}") as socket:
            cursor = (await until(socket, "hello"))["cursor"]
            if channel == "system":  # What a client is greeted with takes a health check.
                await until(socket, "system_status")
                assert "cursor" not in await until(socket, "service_status")
            await api.append(*happenings(number))
            for say in ("ping", "junk", {"type": "subscribe", "patterns": ["*"]}):
                await socket.send_str(say if isinstance(say, str) else json.dumps(say))
            families = {"events": "event.*", "system": "system.*", "detections": "detection.*"}
            await socket.send_json({"type": "subscribe", "patterns": [families[channel]]})
            await until(socket, "subscribed")
            await socket.send_json({"type": "resume", "cursor": cursor})
            await until(socket, "resumed")
    for channel, seen in described.seen.items():
        assert seen == set(described.named(channel, "send")), channel
    catalogue = await api.json("/api/system/websocket/events")
    assert catalogue["count"] == len(catalogue["events"])
    document = await api.json("/api/asyncapi.json")
    for each in catalogue["events"]:
        name = each["schema"].rpartition("/")[2]
        assert name in document["components"]["schemas"]
        address = document["channels"][each["channel"].removeprefix("/ws/")]["address"]
        assert address == each["channel"]
        assert each["description"]
    sent = {each["type"] for each in catalogue["events"] if each["sent_by"] == "server"}
    assert {"event", "detection", "system_status", "service_status", "camera_status"} <= sent


async def test_what_is_sent_goes_between_pings_and_answers_in_whole_frames(api: Served) -> None:
    """Messages are written past aiohttp's own writer: theirs and its frames must not mix."""
    events = [detected("front", n) for n in range(200)]
    async with api.client.ws_connect("/ws/detections", autoping=False) as socket:
        await until(socket, "hello")
        for start in range(0, 200, 20):
            await api.log.append_all([new(event) for event in events[start : start + 20]])
            await socket.ping(b"x" * 100)
            await socket.send_str("ping")
        seen: list[Any] = []
        pongs = answers = 0
        while len(seen) < 200 or pongs < 10 or answers < 10:
            message = await socket.receive(timeout=5)
            if message.type is WSMsgType.PONG:
                pongs += 1
            elif (said := json.loads(message.data))["type"] == "pong":
                answers += 1
            else:
                seen.append(said)
    assert pictures(seen) == [event.picture_id for event in events]
