"""Canaries of a candidate prompt: marked everywhere, answered twice, withdrawn when it is bad."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from support.llama import KEY, FakeLlama, fake_llama, free_port
from support.logs import Stage, all_of, new, quick, until
from support.prompt_trials import answer_own_prompt, is_own, own_prompt
from support.risk_scenes import BANDS, Cameras, assessed, facts
from support.serving import Served, served
from typer.testing import CliRunner

from agents.refine import Lane, Refine
from agents.trying import open_guards
from agents.trying_prompts import open_prompt_canary, open_prompt_trial
from agents.turns import Turns
from domain.events import AssessmentRefined, ConfigChanged, PromptCompared
from domain.trials import is_canary
from hsi.__main__ import build
from inference.llm import LlamaRiskModel
from runtime.settings import Settings
from streams.channel import ChannelOptions, each
from streams.configuration import Change, change_settings
from streams.live_settings import LiveSettings

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")

WINDOW = 5
ONE = ChannelOptions(run_size=1)


class House:
    """A log with its API, both lanes of `refine`, and the trial of a prompt with its guard."""

    def __init__(self, api: Served, fake: FakeLlama, settings: Settings) -> None:
        self.api = api
        self.fake = fake
        self.settings = settings
        self.live = LiveSettings(settings)

    @asynccontextmanager
    async def stages(self) -> AsyncIterator[None]:
        """Run `refine` and `trial` as their roles do."""
        log, live = self.api.log, self.live
        await log.use_groups(["trial_prompt"])
        async with AsyncExitStack() as stack:
            model = LlamaRiskModel(self.fake.url, api_key=KEY)
            stack.push_async_callback(model.close)
            canary = open_prompt_canary(live, stack)
            trial = open_prompt_trial(self.settings, log, Cameras(), BANDS, stack)
            handlers = {"trial_prompt": each(trial)}
            turns = Turns(2)
            for group, first in (("refine_first", True), ("refine", False)):
                lane = Lane(first, turns)
                handlers[group] = each(Refine(model, Cameras(), BANDS, log, lane, canary))
            for group, handler in handlers.items():
                await stack.enter_async_context(Stage(log, group, group, ONE, handler=handler))
            stop = asyncio.Event()
            (guard,) = open_guards(log, live).values()
            watching = asyncio.create_task(guard.run(stop))
            try:
                yield
            finally:
                stop.set()
                await watching

    async def set(self, percent: int) -> None:
        old = self.live.current.candidate_prompt_percent
        changes = [Change("candidate_prompt_percent", old, percent)]
        name = f"set-{percent}-{self.live.changed.ms}"
        self.live.learn(await change_settings(self.api.log, changes, actor="ann", command=name))

    async def assess(self, *names: str) -> None:
        """Assess events, and wait until all that came of them is compared."""
        before = len(await self.compared())
        scene = assessed(facts("person"))
        told = [msgspec.structs.replace(scene, event_id=n, batch_id=f"batch-{n}") for n in names]
        await self.api.log.append_all([new(each, each.event_id) for each in told])

        async def all_compared() -> bool:
            return len(await self.compared()) == before + len(names)

        await until(all_compared)

    async def refined(self) -> dict[str, AssessmentRefined]:
        events = [envelope.event for envelope in await all_of(self.api.log, "assessments")]
        return {event.event_id: event for event in events if isinstance(event, AssessmentRefined)}

    async def compared(self) -> dict[str, PromptCompared]:
        events = [envelope.event for envelope in await all_of(self.api.log, "trials")]
        return {event.event_id: event for event in events if isinstance(event, PromptCompared)}

    async def withdrawn(self) -> ConfigChanged | None:
        events = [envelope.event for envelope in await all_of(self.api.log, "system")]
        found = [e for e in events if isinstance(e, ConfigChanged) and e.actor == "trial guard"]
        assert len(found) <= 1
        return found[0] if found else None

    async def is_withdrawn(self) -> bool:
        return await self.withdrawn() is not None

    @property
    def asked_own(self) -> int:
        """Return how often the candidate prompt was asked."""
        return sum(is_own(body) for _, _, body in self.fake.requests)


@asynccontextmanager
async def lived_in(
    valkey_url: str, database_url: str, folder: Path, **changed: Any
) -> AsyncIterator[House]:
    (folder / "cameras").mkdir()
    async with (
        served(valkey_url, database_url, folder / "cameras") as api,
        fake_llama() as fake,
    ):
        await api.register("front_door")
        answer_own_prompt(fake, 100)
        settings = Settings(
            nemotron_url=fake.url,
            nemotron_api_key=SecretStr(KEY),
            candidate_prompt=str(own_prompt(folder / "prompts")),
            candidate_window=WINDOW,
            **changed,
        )
        yield House(api, fake, settings)


@pytest.fixture
async def house(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with lived_in(valkey_url, database_url, tmp_path) as house:
        yield house


def canaries(percent: int, number: int) -> list[str]:
    """Return the ids of the first events that are canaries at this percentage."""
    return [name for n in range(5000) if is_canary(name := f"evt_{n}", percent)][:number]


async def test_of_every_canary_both_answers_are_told_and_the_event_says_so(house: House) -> None:
    answer_own_prompt(house.fake, 20)  # The same level as the prompt in service.
    (mine, *_), other = canaries(10, 2), "evt_0"
    assert not is_canary(other, 10)
    async with house.stages():
        await house.set(10)
        await house.assess(mine, other)
    refined, compared = await house.refined(), await house.compared()
    assert (refined[mine].canary, refined[mine].prompt_version) == (True, "own-1")
    assert (refined[other].canary, refined[other].prompt_version) == (False, "risk-v1")
    assert refined[mine].prompt_sha256 != refined[other].prompt_sha256
    told = compared[mine]
    assert told.canary
    assert (told.prompt_version, told.summary) == ("risk-v1", "A person at the door.")
    assert (told.candidate_prompt, told.candidate_summary) == (
        "own-1",
        "The night watch is worried.",
    )
    assert not compared[other].canary
    assert not await house.is_withdrawn()
    await house.api.project()
    for name in (mine, other):
        event = await house.api.json(f"/api/events/{name}")
        assert (event["model_canary"], event["model_candidate_failure"]) == (name == mine, None)
    await _is_told(house, mine)
    url = str(house.api.client.make_url("/")).rstrip("/")
    shown, error = await said("why", mine, "--url", url)
    assert "a canary of the candidate on trial" in " ".join(shown.split()), error
    assert "canary" not in (await said("why", other, "--url", url))[0]


async def _is_told(house: House, canary: str) -> None:
    """Check that lineage and figures know the canary."""
    for name in (canary, "evt_0"):
        (assessment,) = (await house.api.json(f"/api/events/{name}/lineage"))["assessments"]
        assert assessment["refinement"]["canary"] == (name == canary)
    answer = await house.api.json("/api/trials")
    (row,) = answer["prompts"]
    assert (row["events"], row["canaries"], row["failed"]) == (2, 1, 0)
    (change,) = answer["changes"]
    assert (change["setting"], change["new_percent"]) == ("CANDIDATE_PROMPT_PERCENT", 10)
    assert answer["prompt_limits"]["max_latency_ms"] == 30_000.0


async def test_a_bad_prompt_is_withdrawn_within_its_window(house: House) -> None:
    async with house.stages():
        await house.assess("shadow")
        assert not await house.is_withdrawn()  # A shadow has nothing to withdraw.
        await house.set(10)
        chosen = canaries(10, WINDOW + 1)
        for name in chosen[:WINDOW]:
            if not await house.is_withdrawn():
                await house.assess(name)
        await until(house.is_withdrawn)
        await until(lambda: house.live.current.candidate_prompt_percent == 0)
        await house.assess(chosen[-1])
    change = await house.withdrawn()
    assert change is not None
    assert (change.setting, change.old, change.new) == ("CANDIDATE_PROMPT_PERCENT", 10, 0)
    assert change.reason == "agreement of 0.00 over 2 of 5 events, below 0.8"
    refined = await house.refined()
    marked = {name for name, event in refined.items() if event.canary}
    assert chosen[0] in marked
    assert marked <= set(chosen[:WINDOW])
    assert {n for n, event in refined.items() if event.prompt_version == "own-1"} == marked


async def test_a_prompt_whose_model_is_away_delays_nothing_and_is_withdrawn(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    async with (
        lived_in(valkey_url, database_url, tmp_path, candidate_nemotron_url=away) as house,
        house.stages(),
    ):
        await house.set(100)
        await house.assess("evt_1")
        await until(house.is_withdrawn)
        await house.api.project()
        event = await house.api.json("/api/events/evt_1")
        change = await house.withdrawn()
        assert house.asked_own == 0
    assert (event["model_canary"], event["model_prompt_version"]) == (False, "risk-v1")
    assert event["model_candidate_failure"]
    assert change is not None
    assert change.reason == "1 failures over 1 of 5 events, above an error rate of 0.05"


async def test_the_command_and_the_api_set_the_share(
    house: House, valkey_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", valkey_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert "give --percent, --prompt-percent" in str((await said("trial", "set"))[1])
    refused = (await said("trial", "set", "--prompt-percent", "10"))[1]
    assert "neither CANDIDATE_PROMPT nor" in str(refused)
    monkeypatch.setenv("CANDIDATE_PROMPT", "risk-v1")
    shown, _ = await said("trial", "set", "--prompt-percent", "10")
    assert "10 % of the events, before 0 %" in shown
    shown, _ = await said("trial", "set", "--prompt-percent", "0", "--json")
    assert json.loads(shown) == {"candidate_prompt_percent": {"old": 10, "new": 0}}
    changed = {"candidate_prompt_percent": 25}
    answer = await house.api.json("/api/system/config", method="PATCH", json=changed)
    assert answer["candidate_prompt_percent"] == 25
    assert (await house.api.json("/api/trials"))["prompt_percent"] == 25
    await house.api.project()
    told = json.loads((await said("trial", "status", "--json"))[0])
    assert told["prompt_percent"] == 25
    assert [(each["setting"], each["new_percent"]) for each in told["changes"]] == [
        ("CANDIDATE_PROMPT_PERCENT", number) for number in (25, 0, 10)
    ]
    shown, _ = await said("trial", "status")
    assert "the candidate prompt answers for 25 % of the events" in shown


async def said(command: str, *arguments: str) -> tuple[str, Any]:
    run = CliRunner().invoke
    ended = await asyncio.to_thread(run, build(command), [command, *arguments])
    return ended.output, ended.exception
