"""An administrator's day on a running system: change settings, read the logs, find no secret."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession, TCPConnector
from support.installation import Installation, installed
from support.known_secrets import in_files, in_postgres, in_redis, servers_secret
from support.models import demo_picture
from support.watching import eventually

ADMIN = "lion-is-the-key-of-the-administrator"
MISTYPED = "lion-is-the-key-of-the-administratox"
MODEL_KEY = "tiger-in-the-model-key"
CLIP_PASSWORD = "zebra-in-the-address"
WEBHOOK_PATH = "panda-in-the-path-of-the-webhook"


async def test_settings_change_at_once_and_nothing_written_holds_a_secret(
    state_folder: Path,
) -> None:
    runtime_env = state_folder / "runtime.env"
    runtime_env.write_text(f"CLIP_URL=http://house:{CLIP_PASSWORD}@127.0.0.1:9\n")
    with installed(
        state_folder,
        LOG_LEVEL="DEBUG",
        API_KEY_ENABLED="true",
        API_KEYS=json.dumps([ADMIN]),
        TLS_MODE="self_signed",
        TLS_CERT_DIR=str(state_folder / "certs"),
        HSI_RUNTIME_ENV_PATH=str(runtime_env),
        # Nobody answers at either: messages about them are what could give something away.
        NEMOTRON_URL="http://127.0.0.1:9",
        NEMOTRON_API_KEY=MODEL_KEY,
        DEFAULT_WEBHOOK_URL=f"http://127.0.0.1:9/{WEBHOOK_PATH}",
        WEBHOOK_ALLOWED_NETWORKS='["127.0.0.1/32"]',
    ) as house:
        await asyncio.to_thread(house.start)
        async with _session(house, ADMIN) as session:
            await _changes(house, session)
            await _edits(house, session, runtime_env)
            await _errs(house, session)
            shown = {"/api/logs": await _logs(session)}
            for path in (
                *("/api/audit?limit=500", "/api/system/config", "/api/system/health"),
                *("/api/notification/config", "/api/system/services"),
            ):
                shown[path] = json.dumps(await _json(session, path))
            assert '"notify"' in shown["/api/system/services"]
        done = await asyncio.to_thread(_commands, house)
        written = await asyncio.to_thread(lambda: dict(_written(house)))
        assert await asyncio.to_thread(house.stop) == 0
    _no_secret(house, {**shown, **done, **written, **_files(house)})


def _session(house: Installation, key: str) -> ClientSession:
    trust = ssl.create_default_context(cafile=str(house.folder / "certs/server.crt"))
    return ClientSession(
        house.base_url, headers={"X-API-Key": key}, connector=TCPConnector(ssl=trust)
    )


async def _changes(house: Installation, session: ClientSession) -> None:
    """A batch closes after a second of quiet, not after thirty: the agents took it over."""
    route = "/api/system/config"
    asked = {"batch_idle_timeout_seconds": 1, "batch_window_seconds": 2, "retention_days": 9}
    async with session.patch(route, json=asked) as response:
        told = await response.json()
        assert response.status == 200, told
    assert told["batch_idle_timeout_seconds"] == 1
    assert told["log_level"] == "DEBUG", "as this server was started"
    assert (await _json(session, "/api/system/cleanup/status"))["retention_days"] == 9
    now = quote(datetime.now(UTC).isoformat())

    async def in_force() -> bool:
        told = (await _json(session, f"/api/system/as-of?what=settings&at={now}"))["settings"]
        return bool(told and told["batch_idle_timeout_seconds"] == 1)

    await eventually(in_force, seconds=25)
    house.drop("porch", "a.jpg", demo_picture("yard-1-01.jpg"))

    async def closed() -> bool:
        events = (await _json(session, "/api/events"))["events"]
        return bool(events) and events[0]["ended_at"] is not None

    await asyncio.wait_for(eventually(closed, seconds=25), 25)


def _append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(line)


async def _edits(house: Installation, session: ClientSession, runtime_env: Path) -> None:
    """Edit the file of a running system: every process takes it over."""
    await asyncio.to_thread(_append, runtime_env, "RETENTION_DAYS=11\n")

    async def told() -> bool:
        config = await _json(session, "/api/system/config")
        by = config["changed"].get("retention_days")
        return (config["retention_days"], by) == (11, "runtime.env")

    await eventually(told, seconds=30)

    def everywhere() -> bool:
        written = (house.folder / "security.log").read_text()
        lines = [json.loads(line) for line in written.splitlines()]
        learnt = {line["role"] for line in lines if "changed: " in line["message"]}
        return all(any(role in each for each in learnt) for role in ("api", "detect", "project"))

    await eventually(everywhere, seconds=25)


async def _errs(house: Installation, session: ClientSession) -> None:
    """Make the mistakes that end in logs: a mistyped key, one in an address, one in a message."""
    async with _session(house, MISTYPED) as other, other.get("/api/events") as response:
        assert response.status == 401
    async with session.get(f"/api/events?api_key={MISTYPED}&limit=x") as response:
        assert response.status == 400
    body = {"level": "ERROR", "message": f"the page knows {MODEL_KEY} and {ADMIN}"}
    async with session.post("/api/logs/frontend", json=body) as response:
        assert response.status == 200
    async with session.post("/api/notification/test", json={"channel": "webhook"}) as response:
        assert (await response.json())["result"] == "away"


async def _logs(session: ClientSession) -> str:
    async def all_speak() -> bool:
        stats = await _json(session, "/api/logs/stats")
        said = " ".join(stats["components"])
        browser = await _json(session, "/api/logs?search=the+page+knows")
        return all(role in said for role in ("api", "detect", "project")) and browser["count"] == 1

    await eventually(all_speak, seconds=25)
    async with session.get("/api/logs?limit=1000") as response:
        return await response.text()


async def _json(session: ClientSession, path: str) -> Any:
    async with session.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def _commands(house: Installation) -> dict[str, str]:
    """Run commands that write or show much, as the same administrator."""
    said = {}
    report = [
        "diagnostics",
        "--output",
        str(house.folder / "report.tar.gz"),
        "--url",
        house.base_url,
    ]
    for command in (["archive", "run"], ["config", "--json"], ["config", "--check"], report):
        done = subprocess.run(
            [sys.executable, "-m", "hsi", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**house.environ, "HSI_STATE_DIR": str(house.state)},
        )
        assert done.returncode in (0, 1), done.stderr
        said[f"hsi {' '.join(command)}"] = done.stdout + done.stderr
    return said


def _written(house: Installation) -> Iterator[tuple[str, str]]:
    yield from in_redis(house)
    yield from in_postgres(house)


def _files(house: Installation) -> dict[str, str]:
    """Return every file below the installation but those whose purpose is to hold a secret."""
    kept = {house.state / "secret", house.folder / "certs/server.key"}
    kept.add(house.folder / "runtime.env")
    return {place: text for place, text in in_files(house.folder) if Path(place) not in kept}


def _no_secret(house: Installation, texts: dict[str, str]) -> None:
    places = " ".join(texts)
    for part in (
        "redis hsi:",
        "table events",
        ".jsonl.zst",
        "security.log",
        "up.out",
        "report.tar.gz",
    ):
        assert part in places, places
    assert sum(map(len, texts.values())) > 100_000
    key_file = house.folder / "certs/server.key"
    (*_, a_line_of_the_key, _) = key_file.read_text().strip().splitlines()
    secrets = (ADMIN, MISTYPED, MODEL_KEY, CLIP_PASSWORD, WEBHOOK_PATH, servers_secret(house))
    for place, text in texts.items():
        for secret in (*secrets, a_line_of_the_key):
            assert secret not in text, (place, text[max(0, text.find(secret) - 200) :][:400])
