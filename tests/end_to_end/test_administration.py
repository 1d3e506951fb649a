"""An administrator's day on a running system: change settings, read the logs, find no secret."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession
from support.installation import Installation, installed
from support.models import demo_picture
from support.watching import eventually

API_KEY = "tiger-in-the-model-key"


async def test_settings_change_at_once_and_no_log_holds_a_secret(state_folder: Path) -> None:
    with installed(state_folder, NEMOTRON_API_KEY=API_KEY, LOG_LEVEL="DEBUG") as house:
        await asyncio.to_thread(house.start)
        async with ClientSession(house.base_url) as session:
            await _changes(house, session)
            records = await _logs(session)
        assert await asyncio.to_thread(house.stop) == 0
        _no_secret(house, records)


async def _changes(house: Installation, session: ClientSession) -> None:
    """A batch closes after a second of quiet, not after thirty: the agents took it over."""
    route = "/api/system/config"
    asked = {"batch_idle_timeout_seconds": 1, "batch_window_seconds": 2, "retention_days": 9}
    async with session.patch(route, json=asked) as response:
        told = await response.json()
        assert response.status == 200, told
    assert told["batch_idle_timeout_seconds"] == 1
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


async def _logs(session: ClientSession) -> str:
    body = {"level": "ERROR", "message": f"the page knows {API_KEY}"}
    async with session.post("/api/logs/frontend", json=body) as response:
        assert response.status == 200

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


def _no_secret(house: Installation, records: str) -> None:
    password = (house.state / "secret").read_text().strip()
    files = [*tmp_files(house), house.output]
    assert len(files) > 4
    texts = {str(path): path.read_text(errors="replace") for path in files}
    texts["/api/logs"] = records
    assert sum(map(len, texts.values())) > 10_000
    for place, text in texts.items():
        for secret in (API_KEY, password):
            assert secret not in text, place


def tmp_files(house: Installation) -> list[Path]:
    """Return every file that somebody may read as a log."""
    return [*house.folder.glob("security.log*"), *house.state.rglob("*.log")]
