"""Redis goes away between a role's connection and its first read: it waits and says so."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.logs import new, opened
from support.watching import eventually

from agents import opening
from agents.opening import open_patiently
from api import serve
from domain.errors import ServiceUnavailableError
from domain.events import CameraRegistered
from runtime.settings import Settings, load_settings
from streams.log import EventLog

SAID = "Redis does not answer: Connection closed by server."


def away_at(
    monkeypatch: pytest.MonkeyPatch, method: str, then: Callable[[], None] = lambda: None
) -> None:
    """Let the first call of a method of the log meet a Redis that has just gone away."""
    whole = getattr(EventLog, method)

    async def broken(*_arguments: object, **_options: object) -> None:
        monkeypatch.setattr(EventLog, method, whole)
        then()
        raise ServiceUnavailableError("redis", SAID)

    monkeypatch.setattr(EventLog, method, broken)


def settings_of(redis_url: str, folder: Path, **others: str) -> Settings:
    (folder / "cameras").mkdir()
    places = {"FOSCAM_BASE_PATH": str(folder / "cameras"), "HSI_STATE_DIR": str(folder / "state")}
    return load_settings(environ={"REDIS_URL": redis_url, **places, **others})


async def test_agents_wait_for_a_redis_that_goes_away_before_their_first_read(
    valkey_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opening, "START_RETRY_SECONDS", 0.05)
    async with opened(valkey_url, 4) as log:
        await log.append(
            new(CameraRegistered(camera_id="porch", name="Porch", folder="p", source="folder"))
        )
    away_at(monkeypatch, "read")
    found = await open_patiently(settings_of(valkey_url, tmp_path), ["detect"], asyncio.Event())
    assert found is not None
    log, cameras = found
    await log.close()
    assert cameras.known("porch")
    assert caplog.text.count(f"waiting for Redis: {SAID}") == 1


async def test_agents_stop_while_they_wait(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()
    away_at(monkeypatch, "read", stop.set)
    assert await open_patiently(settings_of(valkey_url, tmp_path), ["detect"], stop) is None


async def test_the_api_waits_for_a_redis_that_goes_away_before_its_first_read(
    valkey_url: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(serve, "RETRY_SECONDS", 0.05)
    monkeypatch.setenv("HSI_READY_FILE", str(tmp_path / "ready.json"))
    away_at(monkeypatch, "newest")
    settings = settings_of(
        valkey_url, tmp_path, DATABASE_URL=database_url, API_HOST="127.0.0.1", API_PORT="0"
    )
    running = asyncio.create_task(serve.run_api(settings))
    try:
        await eventually((tmp_path / "ready.json").exists)
        assert f"the API waits: {SAID}" in caplog.text
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await running
