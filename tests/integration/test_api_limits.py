"""Rate limits: sliding minutes in Redis, by class, key and address, behind trusted proxies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import WSMsgType
from support.serving import Served, served

from api.access_keys import KeyRing, digest_of
from api.limits import LocalWindows, SharedWindows
from api.limits_config import RateLimitConfig
from api.services import ApiConfig
from domain.errors import ServiceUnavailableError
from streams.log import EventLog
from streams.rate_limit import Hit, RateWindows

KEYS = ("the-first-of-the-keys", "the-second-of-the-keys")
Serve = Callable[..., AbstractAsyncContextManager[Served]]


def limited(config: ApiConfig) -> ApiConfig:
    return replace(config, rate_limits=RateLimitConfig(), trusted_proxies=("127.0.0.1", "::1"))


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, config=limited) as running:
        yield running


def behind(client: str) -> dict[str, str]:
    """Return what a proxy says of whom it asks for."""
    return {"X-Forwarded-For": client}


async def status(api: Served, path: str, headers: dict[str, str]) -> int:
    async with api.client.get(path, headers=headers) as response:
        return response.status


async def test_the_71st_request_of_a_minute_has_to_wait(api: Served) -> None:
    """60 and a burst of 10, for each client; counters outlive this process."""
    here = behind("203.0.113.9")
    seen = [await status(api, "/api/session", here) for _ in range(70)]
    assert set(seen) == {200}
    async with api.client.get("/api/session", headers=here) as response:
        told = await api.is_problem(response, "too_many_requests", 429)
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert "70 requests a minute" in told["detail"]
    assert await status(api, "/api/session", behind("203.0.113.10")) == 200
    # Another process of the API, or this one after a restart, knows of them.
    other = RateWindows(api.log)
    assert not (await other.hit("default - 203.0.113.9", 70)).accepted
    # What a probe asks is never refused, and this machine's own programs are not counted.
    assert await status(api, "/health", here) == 200
    assert [await status(api, "/api/session", {}) for _ in range(75)] == [200] * 75


async def test_classes_are_counted_apart(api: Served) -> None:
    here = behind("203.0.113.9")
    window = RateWindows(api.log)
    for kind, most in (("media", 130), ("search", 40)):
        for _ in range(most):
            assert (await window.hit(f"{kind} - 203.0.113.9", most)).accepted
    assert await status(api, "/api/pictures/pic_0/image", here) == 429
    assert await status(api, "/api/session", here) == 200
    for _ in range(10):
        ws = await api.client.ws_connect("/ws/system", headers=here)
        await ws.close()
    ws = await api.client.ws_connect("/ws/system", headers=here)
    message = await ws.receive(timeout=5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)


async def test_only_trusted_proxies_name_their_clients(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    """An untrusted peer that makes an address up for each request is counted as itself."""

    def strict(config: ApiConfig) -> ApiConfig:
        few = RateLimitConfig(default=3, burst=1)
        return replace(config, rate_limits=few, trusted_proxies=("192.0.2.1",))

    async with served(valkey_url, database_url, tmp_path, config=strict) as api:
        spoofed = [await status(api, "/api/session", behind(f"10.0.0.{n}")) for n in range(6)]
    assert spoofed == [200, 200, 200, 200, 429, 429]


async def test_the_last_untrusted_address_counts(api: Served) -> None:
    """What a client itself wrote into X-Forwarded-For stands left of what the proxy added."""
    for number in range(70):
        made_up = behind(f"10.9.9.{number}, 203.0.113.50")
        assert await status(api, "/api/session", made_up) == 200
    assert await status(api, "/api/session", behind("203.0.113.50")) == 429


async def test_an_address_that_is_no_text_is_counted_too(api: Served) -> None:
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"GET /api/session HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: \xff\xfe\r\n\r\n"
    for _ in range(2):
        writer.write(head)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b'"csrf_token":null}')
    writer.close()
    assert not (await RateWindows(api.log).hit("default - ??", 2)).accepted


async def test_keys_are_counted_apart_and_refusals_by_address(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    def few(config: ApiConfig) -> ApiConfig:
        return replace(
            limited(config), api_key_enabled=True, rate_limits=RateLimitConfig(default=3, burst=1)
        )

    ring = KeyRing(digest_of(key) for key in KEYS)
    async with served(valkey_url, database_url, tmp_path, config=few, keys=ring) as api:
        here = behind("203.0.113.7")
        for key in KEYS:
            asked = [await status(api, "/api/keys", {**here, "X-API-Key": key}) for _ in range(5)]
            assert asked == [200] * 4 + [429]
        assert [await status(api, "/api/keys", here) for _ in range(5)] == [401] * 4 + [429]


async def test_the_window_slides(valkey_url: str) -> None:
    log = await EventLog.open(valkey_url)
    try:
        for windows in (RateWindows(log, 0.4), LocalWindows(0.4)):
            assert [(await windows.hit("me", 3)).accepted for _ in range(4)] == [True] * 3 + [
                False
            ]
            refused = await windows.hit("me", 3)
            assert 0 < refused.retry_seconds <= 0.4
            await asyncio.sleep(refused.retry_seconds + 0.01)
            assert (await windows.hit("me", 3)).accepted
    finally:
        await log.close()


async def test_while_redis_is_away_this_process_counts() -> None:
    class Away:
        asked = 0

        async def hit(self, who: str, most: int) -> Hit:
            self.asked += 1
            raise ServiceUnavailableError("redis", "it is away")

    class Hanging:
        async def hit(self, who: str, most: int) -> Hit:
            await asyncio.Event().wait()
            raise AssertionError

    away = Away()
    for shared in (away, Hanging()):
        windows = SharedWindows(shared)
        assert [(await windows.hit("me", 2)).accepted for _ in range(3)] == [True, True, False]
    assert away.asked == 1


async def test_a_body_that_never_ends_is_refused(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.parse.BODY_SECONDS", 0.1)
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = "POST /api/cameras HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"name": "'.encode())
    async with asyncio.timeout(10):
        said = await reader.readuntil(b'"code":"request_timeout"')
    assert said.startswith(b"HTTP/1.1 408 ")
    writer.close()
