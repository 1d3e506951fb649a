"""An own prompt tried as an operator does: real processes, a model that answers both prompts."""

import json
import os
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.llama import KEY, fake_llama
from support.logs import all_of, box, detected, new, until
from support.prompt_trials import answer_own_prompt, own_prompt
from support.risk_scenes import assessed, facts
from support.serving import Served, served

from domain.events import AssessmentRefined, ConfigChanged
from domain.ids import batch_id, event_id
from domain.trials import is_canary
from runtime.settings import PROJECT_ROOT

WINDOW = 5


@dataclass
class Installed:
    """A log and its tables, with the environment of processes that try an own prompt."""

    api: Served
    env: dict[str, str]

    async def said(self, *arguments: str) -> Any:
        """Run a command with --json and return what it printed."""
        process = await _hsi(self.env, *arguments, "--json")
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    @asynccontextmanager
    async def roles(self, *names: str) -> AsyncIterator[int]:
        roles = await _hsi(self.env, "agents", *names)
        try:
            yield roles.pid
        finally:
            roles.terminate()
            _, err = await roles.communicate()
        assert roles.returncode == 0, err.decode()

    async def see(self, *pictures: str) -> None:
        """Have a person seen in each picture, an hour apart: each is an event of its own."""
        before = len(await all_of(self.api.log, "detections"))
        seen = [
            detected(name, 3600.0 * number, box("person", 0.8), camera="front_door")
            for number, name in enumerate(pictures, start=before)
        ]
        await self.api.log.append_all([new(each) for each in seen])

        async def all_refined() -> bool:
            return len(await self.refined()) == before + len(pictures)

        await until(all_refined, seconds=60)

    async def refined(self) -> list[AssessmentRefined]:
        events = [envelope.event for envelope in await all_of(self.api.log, "assessments")]
        return [event for event in events if isinstance(event, AssessmentRefined)]

    async def withdrawn(self) -> ConfigChanged | None:
        events = [envelope.event for envelope in await all_of(self.api.log, "system")]
        found = [e for e in events if isinstance(e, ConfigChanged) and e.actor == "trial guard"]
        return found[0] if found else None

    async def is_withdrawn(self) -> bool:
        return await self.withdrawn() is not None


@pytest.fixture
async def installed(
    valkey_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Installed]:
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base) as api, fake_llama() as fake:
        answer_own_prompt(fake, 100)
        await api.register("front_door")
        own = {
            "PYTHONPATH": str(PROJECT_ROOT),
            "REDIS_URL": valkey_url,
            "DATABASE_URL": database_url,
            "FOSCAM_BASE_PATH": str(base),
            "HSI_STATE_DIR": str(tmp_path / "state"),
            "LOG_FILE_PATH": str(tmp_path / "hsi.log"),
            "NEMOTRON_URL": fake.url,
            "NEMOTRON_API_KEY": KEY,
            "CANDIDATE_PROMPT": str(own_prompt(tmp_path / "prompts")),
            "CANDIDATE_WINDOW": str(WINDOW),
            "BATCH_WINDOW_SECONDS": "1",
            "BATCH_IDLE_TIMEOUT_SECONDS": "1",
        }
        yield Installed(api, {**os.environ, **own})


async def _hsi(env: dict[str, str], *arguments: str) -> subprocess.Process:
    return await subprocess.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hsi", *arguments),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_an_own_prompt_is_compared_with_the_one_in_service(installed: Installed) -> None:
    api = installed.api
    async with installed.roles("refine"), installed.roles("trial") as trial:
        scene = assessed(facts("person", part="night"))
        for name in ("evt_1", "evt_2"):
            told = msgspec.structs.replace(scene, event_id=name)
            await api.log.append(new(told, name))

        async def compared() -> bool:
            return len(await all_of(api.log, "trials")) == 2

        await until(compared, seconds=60)
        assert os.sched_getscheduler(trial) == os.SCHED_IDLE  # It gives way to the main line.
    await api.project()
    told_of = await installed.said("trial", "status")
    (row,) = told_of["prompts"]
    assert (row["candidate_prompt"], row["prompt_version"]) == ("own-1", "risk-v1")
    assert (row["events"], row["failed"]) == (2, 0)
    assert row["drift"] > 0
    assert told_of["cameras"] == []


def event_of(picture: str) -> str:
    """Return the id of the event that a picture alone becomes."""
    return event_id(batch_id("front_door", picture))


async def test_a_bad_prompt_is_withdrawn_and_every_canary_is_marked_and_asked_about_again(
    installed: Installed,
) -> None:
    chosen = [name for n in range(3000) if is_canary(event_of(name := f"p{n}"), 10)]
    async with installed.roles("batch", "assess", "refine", "trial"):
        await installed.see("shadow-1", "shadow-2")
        asked = await installed.said("trial", "set", "--prompt-percent", "10")
        assert asked == {"candidate_prompt_percent": {"old": 0, "new": 10}}
        while not any(event.canary for event in await installed.refined()):
            await installed.see(chosen.pop())
        await installed.see(*(chosen.pop() for _ in range(WINDOW)))
        await until(installed.is_withdrawn, seconds=60)
        await installed.see("late-1", after := chosen.pop())
    change = await installed.withdrawn()
    assert change is not None
    assert (change.setting, change.old, change.new) == ("CANDIDATE_PROMPT_PERCENT", 10, 0)
    assert change.reason == f"agreement of 0.00 over 2 of {WINDOW} events, below 0.8"
    refined = await installed.refined()
    canaries = {event.event_id for event in refined if event.canary}
    assert len(canaries) >= 2
    assert event_of(after) not in canaries
    assert {event.event_id for event in refined if event.prompt_version == "own-1"} == canaries
    begin = detected("x", -1.0).captured_at.isoformat()
    again = await installed.said("replay", "--from", begin, "--refine")
    assert {each["before"]["event_id"] for each in again["changes"]} == canaries
    for each in again["changes"]:
        assert each["before"]["canary"]
        assert each["after"]["summary"] == "A person at the door."
        assert (each["before"]["level"], each["after"]["level"]) == ("medium", "low")
