"""Clients that are silent, slow, half open or too many: refused or cut, and nobody else waits."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType
from msgspec.structs import replace
from support.asyncapi import checking
from support.serving import Served, assessment, new, served, until

from api.accepting import allow_many_files
from api.broadcast import Channel
from api.websocket import Limits
from domain.events import RiskAssessed
from runtime.settings import Settings, SettingsError, load_settings

HANDSHAKE = (
    b"GET /ws/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _described(monkeypatch: pytest.MonkeyPatch) -> None:
    checking(monkeypatch)


@pytest.fixture
def serve(valkey_url: str, database_url: str, tmp_path: Path) -> Callable[..., Any]:
    """Return what runs an API with other limits."""

    @asynccontextmanager
    async def running(**limits: Any) -> AsyncIterator[Served]:
        async with served(valkey_url, database_url, tmp_path, limits=Limits(**limits)) as api:
            yield api

    return running


async def settled(fine: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fine():  # noqa: ASYNC110 - clients end, which sets no event of ours
            await asyncio.sleep(0.02)


def events_of(api: Served) -> Channel:
    return api.services.broadcaster.channels["events"]


async def test_pongs_do_not_keep_a_silent_client(serve: Callable[..., Any]) -> None:
    async with (
        serve(ping_seconds=0.1, idle_seconds=0.7) as api,
        api.client.ws_connect("/ws/events") as socket,
    ):
        await until(socket, "hello")
        closed = await socket.receive(timeout=10)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1000)
        assert "idle" in str(closed.extra)


async def test_who_says_something_stays(serve: Callable[..., Any]) -> None:
    clock = asyncio.get_running_loop().time
    async with serve(idle_seconds=1.0) as api, api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        began = said = clock()
        while clock() - began < 2.0:
            await asyncio.sleep(0.2)
            gap, said = clock() - said, clock()
            await socket.send_str("ping")
            message = await socket.receive(timeout=5)
            if gap > 0.9:
                return  # The machine was too busy for us to say something in time.
            assert message.type is WSMsgType.TEXT


async def test_pings_come_on_time_and_who_does_not_answer_is_gone(
    serve: Callable[..., Any],
) -> None:
    async with serve(ping_seconds=0.2) as api:
        socket = await api.client.ws_connect("/ws/events", autoping=False)
        await until(socket, "hello")
        for _ in range(3):
            assert (await socket.receive(timeout=5)).type is WSMsgType.PING
            await socket.pong()
        assert len(events_of(api).connections) == 1
        # As if the client's machine had lost its power: nothing is answered any more.
        await settled(lambda: not events_of(api).connections)
        await socket.close()


async def test_limits_are_settings() -> None:
    given = {
        "WEBSOCKET_IDLE_TIMEOUT_SECONDS": (300, 30, 3600),
        "WEBSOCKET_PING_INTERVAL_SECONDS": (30, 5, 120),
        "WEBSOCKET_MAX_MESSAGE_SIZE": (65_536, 1024, 1_048_576),
        "WEBSOCKET_MAX_CLIENTS": (2000, 1, 15_000),
    }
    for name, (default, low, high) in given.items():
        assert getattr(Settings(), name.lower()) == default
        for value in (low, high):
            assert getattr(load_settings(environ={name: str(value)}), name.lower()) == value
        for value in (low - 1, high + 1):
            with pytest.raises(SettingsError, match=name):
                load_settings(environ={name: str(value)})


def test_too_few_files_for_so_many_clients_are_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.accepting.SPARE_FILES", 10)
    allowed = allow_many_files(1)
    allow_many_files(allowed - 10)
    assert "WEBSOCKET_MAX_CLIENTS" not in caplog.text
    assert allow_many_files(allowed - 9) == allowed
    assert f"WEBSOCKET_MAX_CLIENTS={allowed - 9}" in caplog.text


async def test_a_message_that_is_too_large_and_one_that_is_just_not(
    serve: Callable[..., Any],
) -> None:
    async with serve(message_bytes=1024) as api, api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        await socket.send_str(json.dumps({"type": "x" * 1000}))
        assert (await until(socket, "error"))["code"] == "unknown_message_type"
        await socket.send_str("x" * 1025)
        closed = await socket.receive(timeout=5)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1009)


async def test_more_clients_than_there_may_be_are_told_to_come_later(
    serve: Callable[..., Any],
) -> None:
    """200 of 300 are served, 100 refused with the reason; what else is asked is answered."""
    async with serve(max_clients=200) as api:
        connections = [
            await asyncio.open_connection(api.client.host, api.client.port) for _ in range(300)
        ]
        for _, writer in connections:
            writer.write(HANDSHAKE)
        heads = [await reader.readuntil(b"\r\n\r\n") for reader, _ in connections]
        assert (await api.json("/health"))["status"] == "alive"
        welcome = [head for head in heads if head.startswith(b"HTTP/1.1 101 ")]
        refused = [head for head in heads if head.startswith(b"HTTP/1.1 503 ")]
        assert (len(welcome), len(refused)) == (200, 100)
        assert all(b"\r\nRetry-After: 30\r\n" in head for head in refused)
        said = await api.json("/api/system/health/websocket")
        assert (said["status"], said["clients"]) == ("degraded", 200)
        assert "WEBSOCKET_MAX_CLIENTS is 200" in said["message"]
        assert said["channels"]["events"]["refused"] == 100
        for _, writer in connections:
            writer.transport.abort()
        await settled(lambda: not events_of(api).connections)
        said = await api.json("/api/system/health/websocket")
        assert (said["status"], said["clients"]) == ("healthy", 0)
        async with api.client.ws_connect("/ws/events") as socket:
            await until(socket, "hello")


async def test_clients_that_never_read_delay_nobody_and_hold_little(
    serve: Callable[..., Any],
) -> None:
    """They go on from the log, and are cut while those that read hear everything at once."""
    async with serve(outbox_bytes=8192, stall_seconds=1.0) as api:
        stuck = [
            await asyncio.open_connection(api.client.host, api.client.port, limit=1024)
            for _ in range(20)
        ]
        for reader, writer in stuck:
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
        metrics, most = events_of(api).metrics, 0
        async with api.client.ws_connect("/ws/events") as socket:
            await until(socket, "hello")
            number = 0
            async with asyncio.timeout(30):
                while metrics.cut_slow < 20:
                    await api.log.append(new(_long(number)))
                    told = await until(socket, "event")
                    assert told["data"]["event_id"] == _long(number).event_id
                    number += 1
                    said = await api.json("/api/system/health/websocket")
                    most = max(most, said["channels"]["events"]["waiting_bytes"])
        assert metrics.fell_behind >= 20
        # Each may have an outbox, a message that was alone, and one that it was fed.
        assert most < 20 * (8192 + 2 * 21_000)
        for _, writer in stuck:
            writer.transport.abort()
        await settled(lambda: not events_of(api).connections)


def _long(number: int) -> RiskAssessed:
    return replace(assessment("front", number), summary="x" * 20_000)


async def test_a_frame_that_never_ends_and_half_a_handshake_hold_nobody_up(
    serve: Callable[..., Any],
) -> None:
    async with serve(idle_seconds=1.5) as api:
        half = await asyncio.open_connection(api.client.host, api.client.port)
        half[1].write(HANDSHAKE[:60])
        reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"\x81\xfe\x04\x00" + bytes(4) + b"x"
        )  # 1,024 octets to come, and one of them
        async with api.client.ws_connect("/ws/events") as socket:
            await until(socket, "hello")
            await api.log.append(new(assessment("front", 1)))
            await until(socket, "event")
        # Half a frame is nothing said: the client is closed as idle.
        async with asyncio.timeout(20):
            rest = await reader.read()
        assert b"idle" in rest
        for each in (half[1], writer):
            each.close()
