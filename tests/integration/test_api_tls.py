"""The API's port over TLS, seen by openssl: versions, client certificates, renewal, plain HTTP."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, web

from api import accepting
from api.accepting import Doorkeeper, serve
from api.middleware import common_headers
from hsi.keeper import answers as answers_here
from runtime import tls
from runtime.tls import TlsPlan, keep_own, keep_renewed, server_context


@pytest.fixture
def plan(tmp_path: Path) -> TlsPlan:
    """A certificate of its own, by any version from 1.2 on."""
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    keep_own(certificate, key)
    return TlsPlan(
        mode="provided", certificate=certificate, key=key, authority=None, min_version="TLSv1.2"
    )


async def hello(request: web.Request) -> web.StreamResponse:
    if request.path != "/ws":
        return web.Response(text="hello")
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


@asynccontextmanager
async def served(
    context: ssl.SSLContext | None, door: Doorkeeper | None = None
) -> AsyncIterator[int]:
    """Serve on a free port of this machine; give the port."""
    app = web.Application()
    app.on_response_prepare.append(common_headers((), strict=True))
    app.router.add_get("/{tail:.*}", hello)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)
        stop = await serve(app, listener, context, drain_seconds=1.0, door=door)
        try:
            yield listener.getsockname()[1]
        finally:
            await stop()


async def openssl(port: int, *options: str) -> tuple[int, str]:
    """Shake hands by `openssl s_client` and ask for a page; answer its end and what it said."""
    # The oldest versions are refused by the client itself at its usual level of security.
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-no_ign_eof"]
    process = await asyncio.create_subprocess_exec(
        *(*command, *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(request)
    async with asyncio.timeout(20):
        said = await process.stdout.read()
        process.stdin.close()
        return await process.wait(), said.decode(errors="replace")


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")

MATRIX = [
    ("TLSv1.2", "-tls1_1", False),
    ("TLSv1.2", "-tls1_2", True),
    ("TLSv1.2", "-tls1_3", True),
    ("TLSv1.3", "-tls1_1", False),
    ("TLSv1.3", "-tls1_2", False),
    ("TLSv1.3", "-tls1_3", True),
]


@needs_openssl
@pytest.mark.parametrize(("oldest", "version", "works"), MATRIX)
async def test_old_versions_are_refused(
    plan: TlsPlan, oldest: str, version: str, works: bool
) -> None:
    async with served(server_context(replace(plan, min_version=oldest))) as port:
        old = ["-cipher", "DEFAULT:@SECLEVEL=0"] if version == "-tls1_1" else []
        _, said = await openssl(port, version, *old)
    assert ("HTTP/1.1 200 OK" in said and "hello" in said) is works, said
    if not works:
        # It is the server that ends it; asyncio does not always send the alert.
        assert "alert" in said or "unexpected eof" in said, said


@needs_openssl
async def test_mutual_tls_lets_in_who_shows_a_certificate(plan: TlsPlan, tmp_path: Path) -> None:
    own, key = tmp_path / "client.crt", tmp_path / "client.key"
    stranger, its_key = tmp_path / "stranger.crt", tmp_path / "stranger.key"
    keep_own(own, key)
    keep_own(stranger, its_key)
    async with served(server_context(replace(plan, authority=own))) as port:
        for version in ("-tls1_2", "-tls1_3"):
            _, without = await openssl(port, version)
            assert "200 OK" not in without
            shown = ["-cert", str(stranger), "-key", str(its_key)]
            _, wrong = await openssl(port, version, *shown)
            assert "200 OK" not in wrong
            _, right = await openssl(port, version, "-cert", str(own), "-key", str(key))
            assert "200 OK" in right, right


def trusting(certificate: Path) -> TCPConnector:
    return TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate)), force_close=True)


async def test_a_renewed_certificate_counts_while_websockets_stay(
    plan: TlsPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.02)
    other = tmp_path / "other.crt"
    keep_own(other, tmp_path / "other.key")
    context = server_context(plan)
    stop = asyncio.Event()
    watching = asyncio.create_task(keep_renewed(context, plan, stop))
    async with served(context) as port, ClientSession(connector=trusting(plan.certificate)) as old:
        ws = await old.ws_connect(f"https://127.0.0.1:{port}/ws")
        # In the middle of its writing, and written before its key: what was loaded goes on.
        for renewing in (b"half a file", other.read_bytes()):
            caplog.clear()
            plan.certificate.write_bytes(renewing)
            async with asyncio.timeout(10):
                while "the certificate in use stays" not in caplog.text:  # noqa: ASYNC110 - a task looks
                    await asyncio.sleep(0.02)
            assert await answers(old, port)
        plan.certificate.unlink()
        keep_own(plan.certificate, plan.key)
        async with ClientSession(connector=trusting(plan.certificate)) as new:
            async with asyncio.timeout(10):
                while not await answers(new, port):  # noqa: ASYNC110 - a task looks
                    await asyncio.sleep(0.02)
        await ws.send_str("still there?")
        message = await ws.receive(timeout=5)
        assert (message.type, message.data) == (WSMsgType.TEXT, "still there?")
        await ws.close()
    stop.set()
    await watching


async def answers(session: ClientSession, port: int) -> bool:
    try:
        async with session.get(f"https://127.0.0.1:{port}/") as response:
            return response.status == 200
    except ssl.SSLError:
        return False
    except OSError:
        return False


async def test_plain_http_is_told_where_to_go(plan: TlsPlan) -> None:
    async with served(server_context(plan)) as port:
        async with ClientSession() as session:
            asked = f"http://127.0.0.1:{port}/api/events?limit=5"
            async with session.get(asked, allow_redirects=False) as response:
                assert response.status == 308
                assert response.headers["Location"] == asked.replace("http", "https", 1)
        for garbage in (b"\x00\xff\r\n\r\n", b"GET http://elsewhere/ HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()


@needs_openssl
async def test_only_who_came_by_tls_is_told_to_come_by_tls_only(plan: TlsPlan) -> None:
    async with served(server_context(plan)) as port:
        _, said = await openssl(port)
        assert "\r\nStrict-Transport-Security: max-age=15552000\r\n" in said
    async with (
        served(None) as port,
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as response,
    ):
        assert "Strict-Transport-Security" not in response.headers


@needs_openssl
async def test_a_certificate_of_its_own_is_the_same_after_a_restart_and_names_this_machine(
    plan: TlsPlan,
) -> None:
    own = replace(plan, mode="self_signed")
    shown = set()
    for _ in range(2):
        async with served(server_context(own)) as port:
            trust = ["-CAfile", str(plan.certificate), "-verify_return_error"]
            for name in ("localhost", socket.gethostname()):
                _, said = await openssl(port, *trust, "-verify_hostname", name)
                assert "200 OK" in said, said
            _, said = await openssl(port, *trust, "-verify_ip", "127.0.0.1")
            assert "200 OK" in said, said
            _, said = await openssl(port, *trust, "-verify_hostname", "elsewhere.example.org")
            assert "200 OK" not in said, said
            shown.add(plan.certificate.read_bytes())
    assert len(shown) == 1
    assert plan.key.stat().st_mode & 0o777 == 0o600


async def test_hsi_up_sees_that_its_server_answers_by_tls(plan: TlsPlan) -> None:
    async with served(server_context(plan)) as port:
        assert await answers_here(f"https://127.0.0.1:{port}/api/system/health")
        assert not await answers_here(f"http://127.0.0.1:{port}/api/system/health")


# --- connections that ask for nothing -----------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_half_open_connections_are_in_nobodys_way(plan: TlsPlan, encrypted: bool) -> None:
    """Far more than may wait: silent ones, and ones whose request's head never ends."""
    door = Doorkeeper(head_seconds=60.0, most_waiting=40)
    context = server_context(plan) if encrypted else None
    starts = [b"", b"\x16\x03\x01"] if encrypted else [b"", b"GET / HTTP/1.1\r\nX-Slow: "]
    idle = []
    async with served(context, door) as port:
        for number in range(200):
            connection = await asyncio.open_connection("127.0.0.1", port)
            connection[1].write(starts[number % 2])
            idle.append(connection)
        scheme = "https" if encrypted else "http"
        connector = trusting(plan.certificate) if encrypted else TCPConnector()
        async with (
            ClientSession(connector=connector) as session,
            session.get(f"{scheme}://127.0.0.1:{port}/") as response,
        ):
            assert await response.text() == "hello"
        closed = await asyncio.gather(*(is_closed(reader) for reader, _ in idle[:150]))
        assert all(closed)
        for _, writer in idle:
            writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_slow_head_is_cut(plan: TlsPlan, encrypted: bool) -> None:
    door = Doorkeeper(head_seconds=0.1)
    async with served(server_context(plan) if encrypted else None, door) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert await is_closed(reader)
        writer.close()


async def test_who_reads_nothing_of_an_answer_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "READ_SECONDS", 0.2)
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65_536))
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/", endless)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        stop = await serve(app, listener, drain_seconds=0.1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            await ended.wait()
        await stop()


NO_HTTP = (
    b"\x16\x03\x01\x02\x00",
    b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHeader without colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\n\r\n",
)


async def test_what_is_no_http_is_refused_and_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each would else be an error with its stack in the logs and in the database."""
    async with served(None) as port:
        for request in NO_HTTP:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            async with asyncio.timeout(10):
                said = await reader.read()
            assert said.split(b" ")[1] == b"400"
            assert b"\r\nContent-Type: application/problem+json" in said
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in said
            assert b'"code":"bad_request"' in said
            assert b"aiohttp" not in said
            writer.close()
        # A body that is not packed as it says, and that nobody reads.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        packed = b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + packed)
        async with asyncio.timeout(10):
            assert b"HTTP/1.1 405 " in await reader.read()
        writer.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("more", [b"", b"GET / HTTP/1.1\r\nX-Slow: "])
async def test_a_connection_that_asked_once_is_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(accepting, "KEEP_ALIVE_SECONDS", 0.2)
    async with served(None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"hello")
            writer.write(more)
            assert await is_closed(reader)
        writer.close()
