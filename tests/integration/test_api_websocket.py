"""The live feed: pushed at once, resumed once and in order; a burst cuts nobody, a stall does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from msgspec.structs import replace
from support.asyncapi import Described, checking
from support.serving import BEGIN, Served, assessment, new, refinement, served, until
from support.watching import eventually

from api.websocket import Limits
from domain.events import (
    SYSTEM,
    CameraRegistered,
    CameraRemoved,
    EventReviewed,
    GpuReading,
    GpuSampled,
    ServiceStateChanged,
)
from streams.envelope import NewEvent

CAMERAS = ("front", "back", "garage", "yard", "gate")


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> Described:
    """Check every message of this module against the AsyncAPI document."""
    return checking(monkeypatch)


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


def happenings(count: int) -> list[NewEvent]:
    """Return assessments of several cameras, in turn."""
    return [new(assessment(CAMERAS[n % len(CAMERAS)], n)) for n in range(count)]


def names(messages: list[Any]) -> list[str]:
    return [message["data"]["event_id"] for message in messages]


def ids_of(happened: list[NewEvent]) -> list[str]:
    return [event.event.event_id for event in happened]  # type: ignore[attr-defined]


def assert_in_order(messages: list[Any]) -> None:
    """Each camera's events come in the order in which they were appended."""
    for camera in CAMERAS:
        of_camera = [m["data"] for m in messages if m["data"]["camera_id"] == camera]
        starts = [data["started_at"] for data in of_camera]
        assert starts == sorted(starts)


async def take(socket: ClientWebSocketResponse, count: int) -> list[Any]:
    return [await until(socket, "event") for _ in range(count)]


async def test_pushed_as_it_happens(api: Served) -> None:
    told = assessment("front", 1)
    async with api.client.ws_connect("/ws/events") as socket:
        hello = await socket.receive_json()
        assert (hello["type"], hello["resumed"]) == ("hello", False)
        registered = CameraRegistered(camera_id="front", name="F", folder="front", source="api")
        reviewed = EventReviewed(camera_id="front", event_id=told.event_id, reviewed=True)
        events = (registered, told, refinement(told), reviewed, CameraRemoved(camera_id="front"))
        for event in events:
            await api.log.append(new(event))
        messages = [await socket.receive_json(timeout=5) for _ in range(5)]
    by_type: dict[str, list[Any]] = {}
    for message in messages:
        assert message["cursor"]
        by_type.setdefault(message["type"], []).append(message["data"])
    first, second = by_type["event"]
    assert first["id"] == first["event_id"] == told.event_id
    assert (first["risk_score"], first["risk_level"], first["engine"]) == (45, "medium", "rules")
    assert first["started_at"] == "2025-12-30T12:01:00Z"
    assert first["picture_id"] == told.picture_ids[0]
    assert (second["risk_score"], second["engine"], second["model"]) == (62, "rules+model", "tiny")
    assert (second["started_at"], second["is_fast_path"]) == (first["started_at"], False)
    changes = [data["change"] for data in by_type["camera_status"]]
    assert changes == ["registered", "removed"]
    assert by_type["event_reviewed"] == [
        {"event_id": told.event_id, "camera_id": "front", "reviewed": True}
    ]


async def test_a_push_takes_milliseconds(api: Served) -> None:
    delays = []
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        for happening in happenings(40):
            began = time.perf_counter()
            await api.log.append(happening)
            await until(socket, "event")
            delays.append(time.perf_counter() - began)
    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_a_client_that_was_away_gets_all_once_and_in_order(api: Served) -> None:
    everything = happenings(160)
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        for happening in everything[:20]:
            await api.log.append(happening)
        seen = await take(socket, 20)
    for happening in everything[20:120]:
        await api.log.append(happening)
    # More keeps happening while the client catches up.
    more = asyncio.create_task(api.log.append_all(everything[120:]))
    cursor = seen[-1]["cursor"]
    async with api.client.ws_connect(f"/ws/events?cursor={cursor}") as socket:
        hello = await socket.receive_json()
        assert (hello["resumed"], hello["cursor"]) == (True, cursor)
        messages = await take(socket, 140)
    await more
    assert sorted(names(seen + messages)) == sorted(ids_of(everything))
    assert_in_order(seen + messages)
    # Resuming in the middle gives exactly the rest.
    async with api.client.ws_connect(f"/ws/events?cursor={messages[69]['cursor']}") as socket:
        rest = await take(socket, 70)
        assert (await until(socket, "resumed"))["count"] == 70
    assert sorted(names(rest)) == sorted(names(messages[70:]))


async def test_resuming_by_message(api: Served) -> None:
    everything = happenings(50)
    async with api.client.ws_connect("/ws/events") as socket:
        cursor = (await until(socket, "hello"))["cursor"]
        for happening in everything:
            await api.log.append(happening)
        live = await take(socket, 50)
        await socket.send_json({"type": "resume", "cursor": live[9]["cursor"]})
        again = await take(socket, 40)
        assert (await until(socket, "resumed"))["count"] == 40
        assert sorted(names(again)) == sorted(names(live[10:]))
        assert_in_order(again)
        await socket.send_json({"type": "resume", "cursor": cursor})
        all_again = await take(socket, 50)
        assert sorted(names(all_again)) == sorted(ids_of(everything))
        assert_in_order(all_again)


async def test_a_refinement_after_a_resume_still_knows_its_beginning(api: Served) -> None:
    told = assessment("front", 1)
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        await api.log.append(new(told))
        cursor = (await until(socket, "event"))["cursor"]
    await api.log.append(new(refinement(told)))
    async with api.client.ws_connect(f"/ws/events?cursor={cursor}") as socket:
        again = await until(socket, "event")
    assert again["data"]["started_at"] == "2025-12-30T12:01:00Z"


async def test_cursors_that_cannot_be_used(api: Served) -> None:
    async with api.client.ws_connect("/ws/system") as socket:
        foreign = (await until(socket, "hello"))["cursor"]
    for cursor, code in ((foreign, "invalid_cursor"), ("nonsense", "invalid_cursor")):
        async with api.client.ws_connect(f"/ws/events?cursor={cursor}") as socket:
            error = await socket.receive_json()
            assert (error["type"], error["code"]) == ("error", code)
            assert error["message"]
            # The client is live all the same and may load the list again.
            assert (await socket.receive_json())["resumed"] is False
            await api.log.append(new(assessment("front", len(code) + len(cursor))))
            await until(socket, "event")


async def test_a_cursor_that_the_log_no_longer_reaches(api: Served) -> None:
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        for number in range(3):
            await api.log.append(new(assessment("front", number)))
        cursor = (await take(socket, 3))[0]["cursor"]
    partition = api.log.partition_of("front")
    await api.log.client.xtrim(f"hsi:{{{partition}}}:assessments", maxlen=1, approximate=False)
    async with api.client.ws_connect(f"/ws/events?cursor={cursor}") as socket:
        error = await socket.receive_json()
        assert (error["type"], error["code"]) == ("error", "cursor_too_old")


async def test_what_clients_may_say(api: Served) -> None:
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        for text in ("ping", '{"type":"ping"}'):
            await socket.send_str(text)
            assert await socket.receive_json() == {"type": "pong"}
        for text, code in {
            "{": "invalid_json",
            "\x00": "invalid_json",
            '{"x":' + "[" * 30_000 + "]" * 30_000 + "}": "invalid_json",
            '{"type":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}": "invalid_json",
            "[]": "invalid_message_format",
            '{"kind":"ping"}': "invalid_message_format",
            '{"type":7}': "invalid_message_format",
            '{"type":"resume"}': "validation_error",
            '{"type":"resume","cursor":"x"}': "invalid_cursor",
            '{"type":"dance"}': "unknown_message_type",
            '{"type":"subscribe"}': "validation_error",
            '{"type":"subscribe","patterns":"event.*"}': "validation_error",
            '{"type":"subscribe","patterns":[]}': "validation_error",
            '{"type":"unsubscribe","patterns":["job.*"]}': "validation_error",
        }.items():
            await socket.send_str(text)
            error = await socket.receive_json()
            assert (error["type"], error["code"]) == ("error", code), text
            assert error["message"]
        await socket.send_bytes(b"ping")
        assert (await socket.receive_json())["code"] == "invalid_message_format"


async def test_patterns_say_what_a_client_is_told_of(api: Served) -> None:
    told = assessment("front", 1)
    review = EventReviewed(camera_id="front", event_id=told.event_id, reviewed=True)
    registered = CameraRegistered(camera_id="front", name="F", folder="front", source="api")

    async def said(socket: ClientWebSocketResponse, kind: str, *patterns: str) -> list[str]:
        await socket.send_json({"type": kind, "patterns": patterns})
        answer = await until(socket, "subscribed")
        held: list[str] = answer["patterns"]
        return held

    async with api.client.ws_connect("/ws/events") as socket:
        cursor = (await until(socket, "hello"))["cursor"]
        assert await said(socket, "subscribe", "event.reviewed", "event.reviewed") == [
            "event.reviewed"
        ]
        for event in (registered, told, review):
            await api.log.append(new(event))
        assert (await socket.receive_json(timeout=5))["type"] == "event_reviewed"
        # What is asked for again by its cursor is cut in the same way.
        await socket.send_json({"type": "resume", "cursor": cursor})
        assert (await socket.receive_json(timeout=5))["type"] == "event_reviewed"
        assert (await socket.receive_json(timeout=5))["count"] == 1
        assert await said(socket, "subscribe", "camera.*") == ["event.reviewed", "camera.*"]
        assert await said(socket, "unsubscribe", "event.reviewed") == ["camera.*"]
        await api.log.append(new(refinement(told)))
        await api.log.append(new(CameraRemoved(camera_id="front")))
        assert (await socket.receive_json(timeout=5))["data"]["change"] == "removed"
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        assert await said(socket, "unsubscribe", "event.*") == ["camera.*"]


async def test_a_message_that_is_too_large(api: Served) -> None:
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        await socket.send_str("x" * 65_537)
        closed = await socket.receive(timeout=5)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1009)


async def test_silence(valkey_url: str, database_url: str, tmp_path: Path) -> None:
    limits = Limits(idle_seconds=0.2)
    async with (
        served(valkey_url, database_url, tmp_path, limits=limits) as api,
        api.client.ws_connect("/ws/events") as socket,
    ):
        await until(socket, "hello")
        closed = await socket.receive(timeout=5)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1000)
        assert "idle" in str(closed.extra)


async def test_shutdown(api: Served) -> None:
    socket = await api.client.ws_connect("/ws/events")
    await until(socket, "hello")
    ending = asyncio.create_task(api.client.server.close())
    closed = await socket.receive(timeout=5)
    assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1001)
    assert "cursor" in str(closed.extra)
    await ending


def pause(socket: ClientWebSocketResponse, *, reading: bool) -> None:
    """Let a client stop reading from its socket, as a stuck program does, or go on."""
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    transport = cast(asyncio.ReadTransport, connection.transport)
    if reading:
        transport.resume_reading()
    else:
        transport.pause_reading()


async def test_a_burst_cuts_nobody_but_a_stalled_client_is_cut(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    limits = Limits(outbox_bytes=100_000, stall_seconds=0.5)
    heavy = [new(replace(assessment("front", n), summary="x" * 50_000)) for n in range(200)]
    async with served(valkey_url, database_url, tmp_path, limits=limits) as api:
        metrics = api.services.broadcaster.channels["events"].metrics
        stalled = await api.client.ws_connect("/ws/events", max_msg_size=0)
        reader = await api.client.ws_connect("/ws/events")
        await until(stalled, "hello")
        await until(reader, "hello")
        pause(stalled, reading=False)
        await api.log.append_all(heavy)
        assert names(await take(reader, 200)) == ids_of(heavy)
        assert metrics.fell_behind >= 1
        wait = asyncio.get_running_loop().time() + 10
        while not metrics.cut_slow and asyncio.get_running_loop().time() < wait:
            await api.json("/health")
        assert metrics.cut_slow == 1
        assert metrics.connections == 2
        pause(stalled, reading=True)
        seen = []
        while (message := await stalled.receive(timeout=5)).type is WSMsgType.TEXT:
            seen.append(json.loads(message.data))
        assert len(seen) < 200
        async with api.client.ws_connect(f"/ws/events?cursor={seen[-1]['cursor']}") as back:
            missed = await take(back, 200 - len(names_if_events(seen)))
        assert names_if_events(seen) + names(missed) == ids_of(heavy)
        await reader.close()


def names_if_events(messages: list[Any]) -> list[str]:
    return names([message for message in messages if message["type"] == "event"])


async def test_the_system_channel(api: Served) -> None:
    reading = GpuReading(index=0, name="RTX", utilization_percent=40.0)
    down = ServiceStateChanged(
        camera_id=SYSTEM,
        service="detector",
        status="unhealthy",
        message="connection refused",
        changed_at=BEGIN,
    )
    await api.append(down)
    async with api.client.ws_connect("/ws/system") as socket:
        await until(socket, "hello")
        status = await until(socket, "system_status")
        assert status["data"]["gpu"]["source"] == "none"
        assert status["data"]["gpu"]["utilization"] is None
        assert status["data"]["cameras"] == {"active": 0, "total": 0}
        assert status["data"]["queue"] == {
            "pending": 0,
            "processing": 0,
            "oldest_seconds": None,
            "clears_in_seconds": 0.0,
            "paused_stages": [],
        }
        assert status["data"]["health"] == "degraded"
        known = await until(socket, "service_status")
        assert (known["data"]["service"], known["data"]["status"]) == ("detector", "unhealthy")
        assert "cursor" not in known
        await api.append(
            GpuSampled(
                camera_id=SYSTEM, host="here", sampled_at=BEGIN, source="nvml", gpus=(reading,)
            ),
            ServiceStateChanged(
                camera_id=SYSTEM,
                service="detector",
                status="healthy",
                message="ssdlite",
                changed_at=BEGIN,
            ),
        )
        changed = await until(socket, "service_status")
        assert changed["data"]["status"] == "healthy"
        cursor = changed["cursor"]
    gpu = await api.json("/api/system/gpu")
    assert (gpu["source"], gpu["gpu_name"], gpu["utilization"]) == ("nvml", "RTX", 40.0)
    assert gpu["temperature"] is None
    async with api.client.ws_connect(f"/ws/system?cursor={cursor}") as socket:
        assert (await until(socket, "resumed"))["count"] == 0


async def test_on_a_redis_cluster(
    redis_cluster_url: str, database_url: str, tmp_path: Path
) -> None:
    everything = happenings(30)
    async with served(redis_cluster_url, database_url, tmp_path) as api:
        async with api.client.ws_connect("/ws/events") as socket:
            cursor = (await until(socket, "hello"))["cursor"]
            for happening in everything:
                await api.log.append(happening)
            live = await take(socket, 30)
        async with api.client.ws_connect(f"/ws/events?cursor={cursor}") as socket:
            again = await take(socket, 30)
        for messages in (live, again):
            assert sorted(names(messages)) == sorted(ids_of(everything))
            assert_in_order(messages)

        async def is_healthy() -> bool:  # A busy machine may take longer than a check waits.
            async with api.client.get("/api/system/health") as response:
                body = await response.json()
            return bool(body["services"]["redis"]["status"] == "healthy")

        await eventually(is_healthy)
