"""A canary as an operator runs it: real processes, two small /detect services, one of them bad."""

import json
import os
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import detect_service
from support.instant_detector import InstantDetector
from support.logs import all_of, new, until
from support.serving import Served, served
from support.trials import PICTURE, BlindService, picture_received

from domain.events import ConfigChanged, ObjectsDetected
from domain.trials import is_canary
from runtime.settings import PROJECT_ROOT

WINDOW = 20


@dataclass
class Installed:
    """A log, its tables and their API, with the environment of processes beside them."""

    api: Served
    candidate: BlindService
    env: dict[str, str]

    async def start(self, *arguments: str) -> subprocess.Process:
        return await subprocess.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "hsi", *arguments),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def said(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def take_in(self, *names: str) -> None:
        for name in names:
            (self.api.base / "porch" / f"{name}.jpg").write_bytes(PICTURE)
        await self.api.log.append_all([new(picture_received(name)) for name in names])

    async def compared(self, number: int) -> bool:
        return len(await all_of(self.api.log, "trials")) >= number

    async def changes(self) -> list[ConfigChanged]:
        found = [envelope.event for envelope in await all_of(self.api.log, "system")]
        return [event for event in found if isinstance(event, ConfigChanged)]

    async def is_withdrawn(self) -> bool:
        return any(change.actor == "trial guard" for change in await self.changes())


@pytest.fixture
async def installed(
    valkey_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Installed]:
    base = tmp_path / "cameras"
    base.mkdir()
    good, bad = InstantDetector(), BlindService()
    async with AsyncExitStack() as stack:
        serve = detect_service.serve
        good_url = await stack.enter_async_context(serve(good.detect, good.health))
        bad_url = await stack.enter_async_context(serve(bad.detect, bad.health))
        api = await stack.enter_async_context(served(valkey_url, database_url, base))
        await api.register("porch")
        own = {
            "PYTHONPATH": str(PROJECT_ROOT),
            "REDIS_URL": valkey_url,
            "DATABASE_URL": database_url,
            "FOSCAM_BASE_PATH": str(base),
            "HSI_STATE_DIR": str(tmp_path / "state"),
            "LOG_FILE_PATH": str(tmp_path / "hsi.log"),
            "RTDETR_URL": good_url,
            "CANDIDATE_RTDETR_URL": bad_url,
            "CANDIDATE_WINDOW": str(WINDOW),
        }
        yield Installed(api, bad, {**os.environ, **own})


async def test_a_bad_canary_is_withdrawn_and_every_canary_is_marked(
    installed: Installed,
) -> None:
    roles = await installed.start("agents", "detect", "batch", "assess", "trial")
    shadow = [f"shadow{number}" for number in range(3)]
    first = [name for n in range(2000) if is_canary(name := f"first{n}", 10)]
    rest = [f"rest{number}" for number in range(WINDOW)]
    try:
        await installed.take_in(*shadow)
        await until(lambda: installed.compared(3), seconds=60)
        assert "before 0 %" in await installed.said("trial", "set", "--percent", "10")
        sent = await _until_heard(installed, first)
        await installed.take_in(*rest)
        await until(installed.is_withdrawn, seconds=60)
        await until(lambda: _detected(installed, 3 + sent + WINDOW), seconds=60)
        # Of canaries, too, the other answer comes in its own time.
        await until(lambda: installed.compared(3 + sent + WINDOW), seconds=60)
    finally:
        roles.terminate()
        _, err = await roles.communicate()
    assert roles.returncode == 0, err.decode()
    await _is_marked(installed, first[sent - 1], set(shadow))


async def _is_marked(installed: Installed, answered: str, shadow: set[str]) -> None:
    """Check that every canary says what it is, and why there are no more of them."""
    detections = await _all_detected(installed)
    canaries = {event.picture_id for event in detections if event.canary}
    assert answered in canaries
    assert all(is_canary(picture, 10) for picture in canaries)
    assert {e.picture_id for e in detections if e.model == "blind"} == canaries
    assert not canaries & shadow
    (asked, withdrawn) = await installed.changes()
    assert (asked.old, asked.new, asked.reason) == (0, 10, "")
    assert (withdrawn.old, withdrawn.new) == (10, 0)
    assert withdrawn.reason.startswith("agreement of 0.00 over ")
    await installed.api.project()
    told: dict[str, Any] = json.loads(await installed.said("trial", "status", "--json"))
    assert told["percent"] == 0
    assert sum(row["canaries"] for row in told["cameras"]) == len(canaries)
    assert {row["candidate"] for row in told["cameras"]} == {"blind"}


async def _until_heard(installed: Installed, names: list[str]) -> int:
    """Take in pictures one by one until the candidate answers one; return how many that were."""
    for number, name in enumerate(names, start=1):
        await installed.take_in(name)
        await until(partial(_detected, installed, 3 + number), seconds=60)
        if any(event.canary for event in await _all_detected(installed)):
            return number
    pytest.fail("no process heard of the percentage")


async def _all_detected(installed: Installed) -> list[ObjectsDetected]:
    found = [envelope.event for envelope in await all_of(installed.api.log, "detections")]
    return [event for event in found if isinstance(event, ObjectsDetected)]


async def _detected(installed: Installed, number: int) -> bool:
    return len(await _all_detected(installed)) >= number
