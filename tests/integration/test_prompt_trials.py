"""A candidate prompt beside the one in service: as a shadow it adds nothing, and yields."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr
from support.llama import KEY, FakeLlama, fake_llama, free_port
from support.logs import Stage, all_of, new, quick, until
from support.prompt_trials import answer_own_prompt, is_own, own_prompt
from support.risk_scenes import BANDS, Cameras, assessed, facts
from support.serving import Served, served
from typer.testing import CliRunner

from agents import trial_prompt
from agents.refine import Lane, Refine
from agents.trying_prompts import open_prompt_trial
from agents.turns import Turns
from domain.events import AssessmentRefined, PromptCompared, RetentionFinished, RiskAssessed
from hsi.__main__ import build
from inference.llm import LlamaRiskModel
from runtime.settings import Settings
from streams.channel import ChannelOptions, each

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")

GROUP = "trial_prompt"
ONE = ChannelOptions(run_size=1)


def told(number: int) -> RiskAssessed:
    """Return the final assessment of an event of its own."""
    scene = assessed(facts("person", part="night"))
    return msgspec.structs.replace(scene, event_id=f"evt_{number}", batch_id=f"batch_{number}")


class House:
    """A log with its API, and a language model that both prompts ask."""

    def __init__(self, api: Served, fake: FakeLlama, folder: Path) -> None:
        self.api = api
        self.fake = fake
        self.settings = Settings(
            nemotron_url=fake.url, nemotron_api_key=SecretStr(KEY), candidate_prompt=str(folder)
        )

    @asynccontextmanager
    async def refining(self) -> AsyncIterator[None]:
        """Run both lanes of the prompt in service."""
        async with AsyncExitStack() as stack:
            model = LlamaRiskModel(self.fake.url, api_key=KEY)
            stack.push_async_callback(model.close)
            turns = Turns(2)
            for group, first in (("refine_first", True), ("refine", False)):
                lane = Lane(first, turns)
                handler = Refine(model, Cameras(), BANDS, self.api.log, lane)
                stage = Stage(self.api.log, group, group, ONE, handler=each(handler))
                await stack.enter_async_context(stage)
            yield

    @asynccontextmanager
    async def trying(self, **changed: str) -> AsyncIterator[None]:
        """Run the candidate, as its role does."""
        log = self.api.log
        await log.use_groups([GROUP])
        settings = self.settings.model_copy(update=changed)
        async with AsyncExitStack() as stack:
            trial = open_prompt_trial(settings, log, Cameras(), BANDS, stack)
            await stack.enter_async_context(Stage(log, GROUP, "t", ONE, handler=each(trial)))
            yield

    async def assess(self, *numbers: int) -> None:
        await self.api.log.append_all([new(told(number), f"evt_{number}") for number in numbers])

    async def compared(self) -> list[PromptCompared]:
        events = [envelope.event for envelope in await all_of(self.api.log, "trials")]
        return [event for event in events if isinstance(event, PromptCompared)]

    async def refined(self) -> list[AssessmentRefined]:
        events = [envelope.event for envelope in await all_of(self.api.log, "assessments")]
        return [event for event in events if isinstance(event, AssessmentRefined)]

    async def until_refined(self, number: int) -> None:
        async def reached() -> bool:
            return len(await self.refined()) >= number

        await until(reached)

    async def until_compared(self, number: int) -> None:
        async def reached() -> bool:
            return len(await self.compared()) >= number

        await until(reached)

    @property
    def asked_own(self) -> int:
        """Return how often the candidate prompt was asked."""
        return sum(is_own(body) for _, _, body in self.fake.requests)


@pytest.fixture
async def house(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "cameras").mkdir()
    async with served(valkey_url, database_url, tmp_path / "cameras") as api, fake_llama() as fake:
        await api.register("front_door")
        answer_own_prompt(fake, 100)
        yield House(api, fake, own_prompt(tmp_path / "prompts"))


async def test_the_candidate_is_asked_the_same_and_changes_nothing(house: House) -> None:
    async with house.refining():
        await house.assess(0, 1, 2)
        await house.until_refined(3)
        before = [envelope.id for envelope in await all_of(house.api.log, "assessments")]
        async with house.trying():
            await house.until_compared(3)
    assert [envelope.id for envelope in await all_of(house.api.log, "assessments")] == before
    in_service, own = (
        sorted(str(b["messages"][-1]) for _, _, b in house.fake.requests if is_own(b) == wanted)
        for wanted in (False, True)
    )
    assert in_service == own
    of = {event.event_id: event for event in await house.refined()}
    for event in await house.compared():
        main = of[event.event_id]
        assert (event.score, event.level, event.prompt_version) == (
            main.score,
            main.level,
            "risk-v1",
        )
        assert (event.candidate_prompt, event.candidate_model_score) == ("own-1", 100)
        assert event.candidate_score is not None
        # The candidate, too, moves the rules' score by so much and no more.
        assert main.rule_score < event.candidate_score < 100
        assert event.drift == event.candidate_score - main.score
        assert event.candidate_summary == "The night watch is worried."
        assert event.candidate_prompt_sha256 != main.prompt_sha256


async def test_agreement_drift_and_latency_are_told_by_camera(
    house: House, valkey_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.refining(), house.trying():
        await house.assess(0, 1)
        await house.until_compared(2)
    events = await house.compared()
    await house.api.project()
    answer = await house.api.json("/api/trials")
    (row,) = answer["prompts"]
    assert (row["camera_id"], row["candidate_prompt"], row["prompt_version"]) == (
        "front_door",
        "own-1",
        "risk-v1",
    )
    assert (row["events"], row["failed"], row["candidate_model"]) == (2, 0, "tiny.gguf")
    assert row["drift"] == pytest.approx(sum(event.drift or 0 for event in events) / 2)
    assert row["agreement"] == (1.0 if events[0].agrees else 0.0)
    assert row["candidate_p95_seconds"] is not None
    assert answer["prompt_configured"] is False
    assert answer["cameras"] == []
    late = await house.api.json("/api/trials", params={"start_date": "2027-01-01"})
    assert late["prompts"] == []
    monkeypatch.setenv("REDIS_URL", valkey_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    run = CliRunner().invoke
    shown = await asyncio.to_thread(run, build("trial"), ["trial", "status"])
    assert "own-1" in shown.output
    said = await asyncio.to_thread(run, build("trial"), ["trial", "status", "--json"])
    assert json.loads(said.output)["prompts"][0]["drift"] == row["drift"]


async def test_a_failing_candidate_is_a_result(house: House) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    async with house.refining(), house.trying(candidate_nemotron_url=away):
        await house.assess(0, 1)
        await house.until_compared(2)
    for event in await house.compared():
        assert event.error
        assert (event.candidate_score, event.drift, event.agrees) == (None, None, None)
    assert house.asked_own == 0
    await house.api.project()
    (row,) = (await house.api.json("/api/trials"))["prompts"]
    assert (row["failed"], row["agreement"], row["candidate_model"]) == (2, None, None)
    assert row["error"]


async def test_the_candidate_waits_until_the_main_line_rests(house: House) -> None:
    async with house.refining():
        await house.assess(0)
        await house.until_refined(1)
    await house.assess(1)  # Nobody refines it: the model in service has something to do.
    async with house.trying():
        await until(lambda: _is_taken(house))
        assert house.asked_own == 0
        async with house.refining():
            await house.until_compared(2)
    assert {event.event_id for event in await house.compared()} == {"evt_0", "evt_1"}


async def test_an_event_is_not_compared_where_the_main_line_never_rests(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_prompt, "IDLE_WITHIN_SECONDS", 0.0)
    async with house.refining():
        await house.assess(0)
        await house.until_refined(1)
    await house.assess(1)
    async with house.trying():
        await until(lambda: _is_through(house))
    assert (house.asked_own, await house.compared()) == (0, [])


async def test_a_candidate_with_a_model_of_its_own_does_not_wait(house: House) -> None:
    async with house.refining():
        await house.assess(0)
        await house.until_refined(1)
    await house.assess(1)
    async with fake_llama() as other, house.trying(candidate_nemotron_url=other.url):
        await house.until_compared(1)
    assert (house.asked_own, len(other.requests)) == (0, 1)


async def test_retention_takes_old_comparisons(house: House) -> None:
    async with house.refining(), house.trying():
        await house.assess(0)
        await house.until_compared(1)
    await house.api.project()
    assert (await house.api.json("/api/trials"))["prompts"] != []
    later = told(0).ended_at.replace(year=2027)
    await house.api.append(
        RetentionFinished(
            camera_id="system",
            cutoff=later,
            as_of=later,
            finished_at=later,
            retention_days=1,
            events_deleted=0,
            detections_deleted=0,
            gpu_stats_deleted=0,
            images_deleted=0,
            space_reclaimed=0,
        )
    )
    assert (await house.api.json("/api/trials"))["prompts"] == []


async def _is_taken(house: House) -> bool:
    """Say whether the candidate holds an answer of the main line in its hands."""
    groups = {group.group: group for group in await house.api.log.backlog()}
    return groups[GROUP].pending > 0 and groups[GROUP].handled == 1


async def _is_through(house: House) -> bool:
    groups = {group.group: group for group in await house.api.log.backlog()}
    return groups[GROUP].left == 0
