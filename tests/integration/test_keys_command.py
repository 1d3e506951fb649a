"""`hsi keys` against `hsi api` with TLS and keys, as separate processes with the same settings."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

ADMIN = "the-key-of-the-settings"


def environment(valkey_url: str, database_url: str, folder: Path) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "REDIS_URL": valkey_url,
        "DATABASE_URL": database_url,
        "FOSCAM_BASE_PATH": str(folder),
        "HSI_STATE_DIR": str(folder / "state"),
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "API_KEY_ENABLED": "true",
        "API_KEYS": json.dumps([ADMIN]),
        "TLS_MODE": "self_signed",
        "HSI_READY_FILE": str(folder / "ready.json"),
    }


@asynccontextmanager
async def api(environ: Mapping[str, str], folder: Path) -> AsyncIterator[str]:
    """Run `hsi api` in a folder; give its URL once it answers."""
    command = [sys.executable, "-m", "hsi", "api"]
    running = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ)
    try:
        async with asyncio.timeout(60):
            while not (folder / "ready.json").exists():  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.05)
        yield json.loads((folder / "ready.json").read_text())["url"]
    finally:
        running.terminate()
        await running.wait()


async def hsi(environ: Mapping[str, str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hsi", *arguments),
        cwd=folder,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    return process.returncode or 0, said.decode(), complained.decode()


async def status(url: str, folder: Path, key: str | None) -> int:
    """Ask for the events by TLS, trusting the certificate that the server made for itself."""
    trust = ssl.create_default_context(cafile=str(folder / "data/certs/server.crt"))
    headers = {} if key is None else {"X-API-Key": key}
    async with (
        ClientSession() as session,
        session.get(f"{url}/api/events", headers=headers, ssl=trust) as response,
    ):
        return response.status


async def test_a_key_is_made_used_and_revoked(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    environ = environment(valkey_url, database_url, tmp_path)
    async with api(environ, tmp_path) as url:
        assert url.startswith("https://")
        assert (tmp_path / "data/certs/server.key").stat().st_mode & 0o777 == 0o600
        code, key, note = await hsi(environ, tmp_path, "keys", "create", "tablet", "--url", url)
        assert (code, key.startswith("hsi_")) == (0, True), note
        assert "it is shown once" in note
        assert await status(url, tmp_path, None) == 401
        assert await status(url, tmp_path, key.strip()) == 200
        code, taken, complaint = await hsi(
            environ, tmp_path, "keys", "create", "tablet", "--url", url
        )
        assert (code, taken) == (1, "")
        assert "revoke it first" in complaint
        told: Any = await hsi(environ, tmp_path, "keys", "list", "--json", "--url", url)
        names = {each["name"]: each["role"] for each in json.loads(told[1])["keys"]}
        assert names == {"API_KEYS 1": "admin", "tablet": "viewer"}
        code, _, complaint = await hsi(environ, tmp_path, "keys", "revoke", "tablet", "--url", url)
        assert code == 0, complaint
        assert await status(url, tmp_path, key.strip()) == 401
        stranger = {**environ, "HSI_API_KEY": "another-key-of-nobody"}
        code, _, complaint = await hsi(stranger, tmp_path, "keys", "list", "--url", url)
        assert code == 1
        assert "not known" in complaint
