"""The API as a process: its ready file, waiting for services, and SIGTERM."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from aiohttp import ClientConnectionError, ClientSession, WSMsgType
from support.servers import PrivateValkey, free_ports
from support.watching import eventually

from projections.migrate import migrate
from runtime.embedded.postgres import PostgresServer
from runtime.embedded.valkey import ask


@asynccontextmanager
async def process(
    redis_url: str, database_url: str, folder: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `hsi api` in an empty folder; end it by its own id at the end."""
    (folder / "cameras").mkdir()
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hsi",
        "api",
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "FOSCAM_BASE_PATH": str(folder / "cameras"),
            "HSI_STATE_DIR": str(folder / "state"),
            "API_HOST": "127.0.0.1",
            "API_PORT": str(port),
            "HSI_READY_FILE": str(folder / "ready.json"),
        },
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def ready(folder: Path) -> Any:
    async with asyncio.timeout(60):
        while not (folder / "ready.json").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)
    return json.loads((folder / "ready.json").read_text())


async def first_answer(session: ClientSession, url: str) -> tuple[int, Any]:
    async with asyncio.timeout(20):
        while True:
            try:
                async with session.get(url) as response:
                    return response.status, await response.json()
            except ClientConnectionError:
                await asyncio.sleep(0.05)


async def test_ready_file_and_drain(valkey_url: str, database_url: str, tmp_path: Path) -> None:
    async with (
        process(valkey_url, database_url, tmp_path, 0) as running,
        ClientSession() as session,
    ):
        told = await ready(tmp_path)
        assert (told["role"], told["pid"]) == ("api", running.pid)
        async with session.get(f"{told['url']}/ready") as response:
            assert (response.status, (await response.json())["ready"]) == (200, True)
        socket = await session.ws_connect(f"{told['url']}/ws/events")
        assert (await socket.receive_json(timeout=5))["type"] == "hello"
        running.send_signal(signal.SIGTERM)
        closed = await socket.receive(timeout=5)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1001)
        assert await asyncio.wait_for(running.wait(), 15) == 0


async def test_waits_for_redis_and_says_so(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    private_valkey.stop()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with (
        process(private_valkey.url, database_url, tmp_path, port),
        ClientSession() as session,
    ):
        status, body = await first_answer(session, f"{url}/api/system/health")
        assert (status, body["status"]) == (503, "unhealthy")
        assert "Redis" in body["services"]["redis"]["message"]
        async with session.get(f"{url}/health") as response:
            assert (response.status, (await response.json())["status"]) == (200, "alive")
        async with session.get(f"{url}/api/events") as response:
            assert (response.status, (await response.json())["code"]) == (503, "starting")
            assert response.headers["Retry-After"]
        assert not (tmp_path / "ready.json").exists()
        private_valkey.start()
        told = await ready(tmp_path)
        assert told["url"] == url
        async with session.get(f"{url}/api/events") as response:
            assert (response.status, (await response.json())["count"]) == (200, 0)


async def test_a_wrong_login_and_a_missing_database_are_named_and_waited_for(
    private_valkey: PrivateValkey, session_postgres: PostgresServer, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    wrong = private_valkey.url.replace(private_valkey.server.folders.secret(), "wrong")
    missing = session_postgres.url.replace("/hsi?", "/made_later?")
    async with process(wrong, missing, tmp_path, port) as running, ClientSession() as session:
        status, body = await first_answer(session, f"{url}/api/system/health")
        assert (status, body["services"]["redis"]["status"]) == (503, "unhealthy")
        assert "Redis refuses the login" in body["services"]["redis"]["message"]
        assert "REDIS_PASSWORD" in body["services"]["redis"]["message"]
        login = f"AUTH {private_valkey.server.folders.secret()}"
        accept = f"{login}\r\nCONFIG SET requirepass wrong\r\n".encode()
        assert ask(str(private_valkey.server.socket), accept) == b"+OK\r\n" * 2

        def says(what: str) -> Callable[[], Awaitable[bool]]:
            async def of_the_database() -> bool:
                async with session.get(f"{url}/api/system/health") as response:
                    services = (await response.json())["services"]
                return what in str(services.get("database", {}).get("message"))

            return of_the_database

        await eventually(says('database "made_later" does not exist'))
        with psycopg.connect(session_postgres.url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE made_later TEMPLATE template0")
        await eventually(says("run `hsi migrate`"))
        await asyncio.to_thread(migrate, missing)
        assert (await ready(tmp_path))["url"] == url
        assert running.returncode is None
