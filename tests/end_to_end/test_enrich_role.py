"""`hsi agents enrich` and `hsi enrich backfill` as an operator runs them, with local services."""

import json
import os
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.enrichments import Services
from support.logs import until
from support.serving import BEGIN, Served, Story, drawn, served, story

from domain.events import ModelFacts
from runtime.settings import PROJECT_ROOT
from streams.names import stream_key

PICTURE = drawn(640, 480)


@dataclass
class Installed:
    """A log, its tables and their API, with the environment of processes beside them."""

    api: Served
    services: Services
    env: dict[str, str]

    async def told(self, number: int) -> Story:
        tale = story("porch", number, picture=PICTURE)
        self.api.picture(tale, PICTURE)
        await self.api.append(*tale.events)
        return tale

    async def enriched(self, tale: Story) -> list[str]:
        await self.api.project()
        found = await self.api.json(f"/api/events/{tale.event_id}/enrichments")
        return [each["service"] for each in found["enrichments"] if each["status"] == "enriched"]

    async def start(self, *arguments: str) -> subprocess.Process:
        return await subprocess.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "hsi", *arguments),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def said(self, *arguments: str) -> tuple[int | None, str, str]:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def installed(
    valkey_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Installed]:
    services = Services()
    base = tmp_path / "cameras"
    base.mkdir()
    async with services.serve() as url, served(valkey_url, database_url, base) as api:
        await api.register("porch")
        own = {
            "PYTHONPATH": str(PROJECT_ROOT),
            "REDIS_URL": valkey_url,
            "DATABASE_URL": database_url,
            "FOSCAM_BASE_PATH": str(base),
            "HSI_STATE_DIR": str(tmp_path / "state"),
            "LOG_FILE_PATH": str(tmp_path / "hsi.log"),
            "HSI_READY_FILE": str(tmp_path / "ready.json"),
            "CLIP_URL": url,
            "FLORENCE_URL": url,
        }
        yield Installed(api, services, {**os.environ, **own})


async def test_the_role_enriches_what_was_there_before_it_and_what_comes(
    installed: Installed,
) -> None:
    before = await installed.told(0)
    role = await installed.start("agents", "enrich")
    try:
        await until(lambda: _both(installed, before), seconds=60)
        after = await installed.told(1)
        await until(lambda: _both(installed, after), seconds=60)
    finally:
        role.terminate()
        _, err = await role.communicate()
    assert role.returncode == 0, err.decode()
    entities = (await installed.api.json("/api/entities"))["entities"]
    assert [each["sightings"] for each in entities] == [2]
    states = {row.service: row for row in await installed.api.services.queries.service_states()}
    assert states["clip"].status == "healthy"
    assert states["clip"].message == "stub 1.0 by http"
    assert states["clip"].model == ModelFacts(model="stub", version="1.0", engine="http")


async def _both(installed: Installed, tale: Story) -> bool:
    return await installed.enriched(tale) == ["florence", "clip"]


async def test_the_command_backfills_what_the_stage_has_passed(installed: Installed) -> None:
    tale = await installed.told(0)
    log = installed.api.log
    await log.use_groups(["enrich_florence", "enrich_clip"])
    for group in ("enrich_florence", "enrich_clip"):
        name = stream_key(log.partition_of("porch"), "batches")
        await log.client.xgroup_setid(name, group, "$")
    since = f"{BEGIN:%Y-%m-%d}"
    backfill = ("enrich", "backfill", "--since", since)
    code, out, err = await installed.said(*backfill, "--dry-run", "--json")
    assert code == 0, err
    planned: dict[str, Any] = json.loads(out)
    assert {name: each["to_do"] for name, each in planned.items()} == {"florence": 1, "clip": 1}
    code, out, err = await installed.said(*backfill, "--service", "clip")
    assert code == 0, err
    assert "clip" in out
    assert await installed.enriched(tale) == ["clip"]


async def test_without_an_address_both_say_what_is_missing(installed: Installed) -> None:
    installed.env |= {"CLIP_URL": "", "FLORENCE_URL": ""}
    for arguments in (("agents", "enrich"), ("enrich", "backfill", "--since", "2026-01-01")):
        code, _, err = await installed.said(*arguments)
        assert code == 1
        assert "FLORENCE_URL, CLIP_URL or ENRICHMENT_URL" in err
