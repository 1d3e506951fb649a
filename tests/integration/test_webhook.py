"""The webhook's adapter against receivers on this machine: pinned, bounded, never led away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web
from support.sink import Sink, bound

from domain.egress import EgressRefusedError, networks_of
from domain.errors import ServiceUnavailableError
from runtime.webhook import NotTakenError, TroubledError, Webhook

LOCAL = networks_of(["127.0.0.1/32"])


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().open() as opened:
        yield opened


async def sent(url: str, *, seconds: float = 5.0) -> int:
    webhook = Webhook(url, allowed=LOCAL, timeout_seconds=seconds)
    try:
        return (await webhook.send("ntf_1", b"{}")).status
    finally:
        await webhook.close()


async def test_only_the_status_of_an_answer_counts(sink: Sink) -> None:
    sink.answers = [200, 202, 500, 418, 404, 429, 503]
    assert [await sent(sink.url), await sent(sink.url)] == [200, 202]
    with pytest.raises(TroubledError, match="answered 500 Internal Server Error") as troubled:
        await sent(sink.url)
    assert troubled.value.status == 500
    for status in (418, 404):
        with pytest.raises(NotTakenError, match=f"answered {status}") as refused:
            await sent(sink.url)
        assert refused.value.status == status
    for status in (429, 503):
        with pytest.raises(ServiceUnavailableError, match=f"answered {status}") as away:
            await sent(sink.url)
        assert "verySecretPart" not in str(away.value)
    assert set(sink.keys) == {"ntf_1"}


async def test_redirects_are_not_followed(sink: Sink) -> None:
    async with Sink().open() as elsewhere:

        async def moved(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(elsewhere.url)

        sink.answer = moved
        with pytest.raises(NotTakenError, match=r"307 .*redirects are not followed"):
            await sent(sink.url)
        assert (len(sink.came), elsewhere.came) == (1, [])


async def test_a_body_without_an_end_is_not_read(sink: Sink) -> None:
    written = 0
    over = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                written += 65_536
        finally:
            over.set()

    sink.answer = endless
    assert await sent(sink.url) == 200
    await asyncio.wait_for(over.wait(), 5)
    # What lies in the two sockets' buffers left; it never came near memory.
    assert written < 16 << 20


async def test_a_receiver_that_is_silent_or_away_or_breaks_off_is_told_apart(sink: Sink) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    sink.answer = silent
    with pytest.raises(ServiceUnavailableError, match=r"within 0\.2 s \(WEBHOOK_TIMEOUT"):
        await sent(sink.url, seconds=0.2)
    sink.answer = broken
    with pytest.raises(TroubledError, match="broke off"):
        await sent(sink.url)
    with bound() as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        with pytest.raises(ServiceUnavailableError, match="cannot be reached: Connection refused"):
            await sent(url)


async def test_a_name_that_changes_between_check_and_call_gains_nothing(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = sink.listener.getsockname()[1]
    asked: list[str] = []
    resolved: list[object] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def lookup(host: str, port: int) -> Sequence[str]:
        """Answer a place that is allowed once, then one that is not."""
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def watched(host: object, port: object, **more: object) -> object:
        resolved.append(host)
        return await real(host, port, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "getaddrinfo", watched)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with bound("127.0.0.2", port) as trap:
        trap.listen()
        trap.setblocking(False)
        webhook = Webhook(f"http://rebinding.example:{port}/hook/x", allowed=LOCAL, lookup=lookup)
        try:
            assert (await webhook.send("ntf_1", b"{}")).status == 204
            assert asked == ["rebinding.example"]
            with pytest.raises(EgressRefusedError, match=r"is 127\.0\.0\.2, a loopback"):
                await webhook.send("ntf_2", b"{}")
        finally:
            await webhook.close()
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert sink.keys == ["ntf_1"]
    assert sink.headers[0]["Host"] == f"rebinding.example:{port}"
    assert "rebinding.example" not in resolved


async def test_no_proxy_is_used_and_no_compression_asked_for(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sink().open() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert await sent(sink.url) == 204
        assert proxy.came == []
    assert sink.headers[0]["Accept-Encoding"] == "identity"
    assert sink.headers[0]["Content-Type"] == "application/json"
