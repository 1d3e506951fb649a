"""The archive for a report of a problem: whole, and without a secret."""

import asyncio
import io
import json
import logging
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, served, story
from support.supervising import supervising
from support.watching import eventually
from typer.testing import CliRunner

from domain.events import SYSTEM, ServiceStateChanged
from hsi.__main__ import build
from projections.log_table import LogWriter
from runtime.log_shipping import ShippingHandler
from runtime.masking import Masker
from runtime.settings import Settings
from streams.live_settings import LiveSettings

SECRETS = {
    "NEMOTRON_API_KEY": "tiger-in-the-model-key",
    "API_KEYS": '["lion-of-the-administrator"]',
    "REDIS_PASSWORD": "heron-of-the-log",
    "DATABASE_URL": "postgresql://hsi:otter-of-the-tables@db.example/hsi",
    "CLIP_URL": "http://user:zebra-in-the-address@clip.example:8093",
}
KNOWN = ("tiger-in", "lion-of", "heron-of", "otter-of", "zebra-in")


def settings() -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in SECRETS.items()})


def unpacked(packed: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = {
            entry.name: file.read().decode()
            for entry in archive
            if (file := archive.extractfile(entry)) is not None
        }
    assert all(name.startswith("hsi-diagnostics/") for name in found)
    return {name.removeprefix("hsi-diagnostics/"): text for name, text in found.items()}


def no_secret(parts: dict[str, str]) -> None:
    for name, text in parts.items():
        for secret in KNOWN:
            assert secret not in text, name


@pytest.fixture
async def api(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    async with served(valkey_url, database_url, tmp_path) as running:
        object.__setattr__(running.services, "live", LiveSettings(settings()))
        yield running


def speak(database_url: str, times: int) -> None:
    """Let a process say something, with a secret in it, into the table of log records."""
    writer = LogWriter(database_url)
    handler = ShippingHandler(writer, "detect", Masker(frozenset()), logging.INFO)
    speaker = logging.Logger("test")
    speaker.addHandler(handler)
    for number in range(times):
        speaker.info("%d: asked with %s", number, SECRETS["NEMOTRON_API_KEY"])
    handler.close()
    writer.close()


def refused() -> ServiceStateChanged:
    """Return a word about a service that repeats a secret."""
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service="detector",
        status="unhealthy",
        message=f"the key {SECRETS['NEMOTRON_API_KEY']} is refused",
        changed_at=datetime.now(UTC),
    )


async def test_the_archive_holds_what_a_report_needs(
    api: Served, valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    await api.register("front")
    await api.append(*story("front").events)
    await asyncio.to_thread(speak, database_url, 120)
    await api.append(refused())
    async with supervising(valkey_url, tmp_path):

        async def heard() -> bool:
            return api.services.supervision.word("detect") is not None

        await eventually(heard)
        async with api.client.get("/api/system/diagnostics") as response:
            assert response.status == 200
            assert response.content_type == "application/gzip"
            parts = unpacked(await response.read())
    no_secret(parts)
    assert "the key ******** is refused" in parts["health.json"]
    told: dict[str, Any] = {
        name: json.loads(text) for name, text in parts.items() if name.endswith(".json")
    }
    assert told["health.json"]["services"]["database"]["status"] == "healthy"
    names = {each["name"] for each in told["services.json"]["services"]}
    assert {"database", "redis", "detector", "detect", "api"} <= names
    assert told["gpu.json"]["source"] == "none"
    assert told["versions.json"]["packages"]["aiohttp"]
    config = told["config.json"]
    assert config["NEMOTRON_API_KEY"]["value"] == "********"
    assert config["CLIP_URL"]["value"] == "http://user:********@clip.example:8093"
    assert config["BATCH_WINDOW_SECONDS"] == {"value": 90, "source": "default"}
    assert told["ledger.json"]["total"] == 1
    assert told["projections.json"]["projections"]
    assert told["dead-letters.json"] == {"groups": []}
    lines = [json.loads(line) for line in parts["log.jsonl"].splitlines()]
    assert [line["message"][:4] for line in lines][-1] == "119:"
    assert len(lines) == 100
    assert set(parts) == {*told, "README.txt", "log.jsonl"}


async def test_the_command_writes_it_with_the_api_and_without(api: Served, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "logs").mkdir(parents=True)
    (state / "secret").write_text("otter-of-the-tables\n")
    (state / "logs" / "pipeline.log").write_text("asked otter-of-the-tables for the key\n")
    whole, alone = tmp_path / "whole.tar.gz", tmp_path / "alone.tar.gz"
    log = tmp_path / "security.log"
    log.write_text("".join(f'{{"n": {n}, "key": "tiger-in-the-model-key"}}\n' for n in range(150)))
    environ = {"HSI_STATE_DIR": str(state), "LOG_FILE_PATH": str(log)}

    def run(path: Path, url: str) -> Any:
        command = ["diagnostics", "--output", str(path), "--url", url]
        return CliRunner().invoke(build("diagnostics"), command, env=environ)

    said = await asyncio.to_thread(run, whole, str(api.client.make_url("/")))
    assert (said.exit_code, said.stdout) == (0, f"{whole}\n")
    assert (whole.stat().st_mode & 0o777) == 0o600
    assert "health.json" in unpacked(whole.read_bytes())
    said = await asyncio.to_thread(run, alone, "http://127.0.0.1:9")
    assert said.exit_code == 3
    assert "does not answer" in said.stderr
    parts = unpacked(alone.read_bytes())
    no_secret(parts)
    assert parts["processes/pipeline.log"] == "asked ******** for the key\n"
    assert len(parts["log.jsonl"].splitlines()) == 100
    assert "without the API" in parts["README.txt"]
    assert json.loads(parts["gpu.json"])["source"] in ("none", "nvml")
    assert json.loads(parts["config.json"])["REDIS_PASSWORD"]["value"] == "********"
