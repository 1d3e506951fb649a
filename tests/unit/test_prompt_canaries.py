"""Canaries of a candidate prompt: who answers, what the event says of it, what is compared."""

import asyncio
from dataclasses import replace

import msgspec
import pytest
from support.risk_scenes import BANDS, Cameras, assessed, envelope, facts

from agents.canary import PromptCanary
from agents.refine import Lane, Refine
from agents.trial_guard import PROMPT
from agents.trial_prompt import PromptPair, PromptTrial
from agents.trying import prompt_limits_of
from agents.turns import Turns
from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from domain.events import AssessmentRefined, PromptCompared, RiskAssessed
from domain.outcomes import Done, Outcome
from domain.prompt import UnusableReplyError
from domain.trials import Limits, breach, is_canary
from inference.ports import RiskOpinion, RiskQuestion
from runtime.settings import Settings
from streams.envelope import Envelope, Position
from streams.log import GroupBacklog

OPINION = RiskOpinion(
    score=20,
    summary="in service",
    reasoning="r",
    model="tiny",
    prompt_version="risk-v1",
    prompt_sha256="0" * 64,
    raw_text="{}",
    tokens_in=900,
    tokens_out=60,
    seconds=4.2,
)
OWN = replace(OPINION, score=0, summary="of the candidate", prompt_version="own-1", seconds=1.5)
NIGHT = assessed(facts("person", part="night"), entry_point=True)
NAMES = [f"evt_{number}" for number in range(60)]
CHOSEN = {name for name in NAMES if is_canary(name, 10)}


class Model:
    """A language model that answers, fails, or does not answer."""

    def __init__(self, answer: RiskOpinion | HsiError | None) -> None:
        self.answer = answer
        self.asked = 0

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        self.asked += 1
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, HsiError):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def check(self) -> str:
        return "tiny"

    async def close(self) -> None:
        return


class Log:
    """A log that holds one assessment, and two lanes that never rest."""

    def __init__(self, *held: Envelope) -> None:
        self.held = list(held)

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        return [each for each in self.held if each.position > after][:count]

    async def backlog(self) -> list[GroupBacklog]:
        raise AssertionError("a canary does not wait until the main line rests")


def of(name: str, rules: RiskAssessed = NIGHT) -> Envelope:
    return envelope(msgspec.structs.replace(rules, event_id=name))


def refiner(candidate: Model, *, percent: int = 100, limit: float = 5.0) -> tuple[Refine, Model]:
    in_service = Model(OPINION)
    canary = PromptCanary(candidate, limit_seconds=limit, percent=percent)
    lane = Lane(first=False, turns=Turns(2))
    return Refine(in_service, Cameras(), BANDS, Log(), lane, canary), in_service


def refined(outcome: Outcome) -> AssessmentRefined:
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, AssessmentRefined)
    return event


async def test_the_candidate_answers_for_its_share_and_every_answer_says_so() -> None:
    assert 0 < len(CHOSEN) < len(NAMES)
    handler, in_service = refiner(Model(OWN), percent=10)
    for name in NAMES:
        outcome = await handler(of(name))
        event = refined(outcome)
        assert event.canary == (name in CHOSEN)
        assert event.prompt_version == ("own-1" if name in CHOSEN else "risk-v1")
        assert event.candidate_failure is None
        assert isinstance(outcome, Done)
        assert outcome.passed_by == event.canary  # It says nothing of the model in service.
    assert in_service.asked == len(NAMES) - len(CHOSEN)


async def test_a_canary_never_goes_below_the_floor() -> None:
    handler, _ = refiner(Model(OWN))
    event = refined(await handler(of("evt_1")))
    assert (event.canary, event.model_score) == (True, 0)
    assert event.score == NIGHT.floor == 60


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailableError("risk_model", "away"),
        PermanentError("refused"),
        UnusableReplyError("not_json", "no JSON", "hm"),
    ],
)
async def test_what_the_candidate_does_not_answer_goes_to_the_prompt_in_service(
    error: HsiError,
) -> None:
    candidate = Model(error)
    handler, _ = refiner(candidate)
    outcome = await handler(of("evt_1"))
    event = refined(outcome)
    assert (event.canary, event.prompt_version) == (False, "risk-v1")
    assert event.candidate_failure == str(error)
    assert isinstance(outcome, Done)
    assert not outcome.passed_by
    # and it is left alone for a while
    again = refined(await handler(of("evt_2")))
    assert (again.candidate_failure or "").startswith("not asked, it failed before: ")
    assert candidate.asked == 1


async def test_a_hanging_candidate_costs_its_limit_once() -> None:
    candidate = Model(None)
    handler, in_service = refiner(candidate, limit=0.01)
    for name in ("evt_1", "evt_2"):
        event = refined(await handler(of(name)))
        assert "no answer within 0.01 s" in (event.candidate_failure or "")
    assert (candidate.asked, in_service.asked) == (1, 2)


async def told_of(event: AssessmentRefined, service: Model, candidate: Model) -> Outcome:
    """Return what the trial makes of a refined assessment whose facts are in the log."""
    pair = PromptPair(service, candidate, "own-1", shares_model=True)
    trial = PromptTrial(pair, Cameras(), BANDS, Log(of("evt_1")), limit_seconds=0.01)
    entry = msgspec.structs.replace(
        envelope(event), id="e_2", position=Position(2, 0), causation_id="e_1"
    )
    return await trial(entry)


def compared(outcome: Outcome) -> PromptCompared:
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, PromptCompared)
    return event


async def canary() -> AssessmentRefined:
    handler, _ = refiner(Model(OWN))
    return refined(await handler(of("evt_1")))


async def test_the_prompt_in_service_is_asked_about_a_canary_at_once() -> None:
    service, candidate = Model(OPINION), Model(NeverAskedError())
    outcome = await told_of(await canary(), service, candidate)
    event = compared(outcome)
    assert (service.asked, candidate.asked) == (1, 0)
    assert (event.canary, event.error) == (True, None)
    assert (event.prompt_version, event.model_score, event.summary) == (
        "risk-v1",
        20,
        "in service",
    )
    assert (event.candidate_prompt, event.candidate_model_score) == ("own-1", 0)
    assert event.candidate_summary == "of the candidate"
    assert (event.seconds, event.candidate_seconds) == (4.2, 1.5)
    assert isinstance(outcome, Done)
    assert not outcome.passed_by


class NeverAskedError(HsiError):
    """An error that must not be met."""


async def test_a_failure_of_the_main_line_is_told_without_asking() -> None:
    handler, _ = refiner(Model(PermanentError("refused")))
    event = refined(await handler(of("evt_1")))
    service = Model(OPINION)
    outcome = await told_of(event, service, Model(OWN))
    assert (compared(outcome).error, service.asked) == ("refused", 0)
    assert not compared(outcome).canary


async def test_a_canary_waits_for_the_model_in_service_and_is_given_up_when_it_refuses() -> None:
    away = ServiceUnavailableError("risk_model", "away")
    with pytest.raises(ServiceUnavailableError):
        await told_of(await canary(), Model(away), Model(OWN))
    outcome = await told_of(await canary(), Model(PermanentError("no")), Model(OWN))
    assert outcome == Done(passed_by=True)


async def test_the_guard_judges_levels_failures_and_seconds() -> None:
    limits = replace(prompt_limits_of(Settings()), window=10)
    assert (limits.max_latency_ms, limits.what) == (30_000.0, "events")
    event = await canary()
    good = compared(await told_of(event, Model(OPINION), Model(OWN)))
    assert said(limits, good) is None
    other = msgspec.structs.replace(good, candidate_level="critical")
    assert said(limits, other) == "agreement of 0.00 over 3 of 10 events, below 0.8"
    slow = msgspec.structs.replace(good, candidate_seconds=31.0)
    assert said(limits, slow) == "1 answers over 1 of 10 events took more than 30000 ms"
    failed = msgspec.structs.replace(good, error="away")
    assert said(limits, failed) == ("1 failures over 1 of 10 events, above an error rate of 0.05")
    assert PROMPT.outcome(event) is None


def said(limits: Limits, event: PromptCompared) -> str | None:
    """Return what the guard says of one comparison after the other, first of all."""
    one = PROMPT.outcome(event)
    assert one is not None
    whys = (breach(limits, [one] * number) for number in range(1, limits.window + 1))
    return next((why for why in whys if why), None)
