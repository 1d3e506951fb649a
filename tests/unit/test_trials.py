"""Trials: canaries of the detect stage, what is compared, and what a window breaks."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from support.logs import box, detected
from support.trials import Cameras, FixedDetector, Pictures, envelopes, picture_received

from agents import canary
from agents.canary import Canary
from agents.detect import Detect
from agents.trial import Pair, Trial
from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from domain.events import CandidateCompared, ObjectsDetected
from domain.outcomes import Done, Outcome
from domain.trials import Compared, Limits, breach, is_canary
from hsi import plan
from inference.ports import Detected, Detector, Picture
from runtime.settings import Settings

GOOD = Compared(failed=False, share=1.0, latency_ms=5.0)
LIMITS = Limits(window=20, min_agreement=0.8, max_error_rate=0.05, max_latency_ms=100.0)
NAMES = [f"pic{number}" for number in range(40)]
CHOSEN = {name for name in NAMES if is_canary(name, 10)}
BUS = box("bus", 0.9)


class Hanging(FixedDetector):
    """Never answers, until it is told to."""

    hangs = True

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().detect(pictures)


def new(error: Exception | None = None) -> FixedDetector:
    """Return a candidate that sees a bus."""
    return FixedDetector("new", BUS, error=error)


def in_service() -> FixedDetector:
    return FixedDetector("rt-detr", box("car", 0.7))


def seen(outcome: Outcome) -> ObjectsDetected:
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, ObjectsDetected)
    return event


async def outcomes_of(candidate: Detector, percent: int = 10) -> Mapping[str, Outcome]:
    asked = Canary(candidate, limit_seconds=5.0, percent=percent)
    handler = Detect(in_service(), Pictures(), Cameras(), 0.5, asked)
    answers = await handler(envelopes([picture_received(name) for name in NAMES]))
    return dict(zip(NAMES, answers, strict=True))


async def test_the_candidate_answers_for_its_share_and_every_answer_says_so() -> None:
    assert 0 < len(CHOSEN) < len(NAMES)
    for name, outcome in (await outcomes_of(new())).items():
        event = seen(outcome)
        assert event.canary == (name in CHOSEN)
        assert event.model == ("new" if name in CHOSEN else "rt-detr")
        assert isinstance(outcome, Done)
        assert outcome.passed_by == event.canary  # It says nothing of the detector in service.
        assert event.candidate_failure is None


@pytest.mark.parametrize(
    "error", [ServiceUnavailableError("detector", "away"), PermanentError("refused")]
)
async def test_what_the_candidate_does_not_answer_goes_to_the_detector_in_service(
    error: HsiError,
) -> None:
    candidate = new(error)
    for name, outcome in (await outcomes_of(candidate)).items():
        event = seen(outcome)
        assert (event.model, event.canary) == ("rt-detr", False)
        assert event.candidate_failure == (str(error) if name in CHOSEN else None)
    assert candidate.calls == 1


async def test_a_hanging_candidate_costs_its_limit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Hanging("new", BUS)
    asked = Canary(candidate, limit_seconds=0.01, percent=100)
    handler = Detect(in_service(), Pictures(), Cameras(), 0.5, asked)
    (first,) = await handler(envelopes([picture_received("a")]))
    assert seen(first).candidate_failure == "no answer within 0.01 s"
    candidate.hangs = False
    (second,) = await handler(envelopes([picture_received("b")]))
    assert "failed before" in (seen(second).candidate_failure or "")
    assert seen(second).model == "rt-detr"
    monkeypatch.setattr(canary, "REST_SECONDS", 0.0)
    again = Detect(in_service(), Pictures(), Cameras(), 0.5, asked)
    monkeypatch.setattr(asked._patience, "_rests_until", 0.0)
    (third,) = await again(envelopes([picture_received("c")]))
    assert seen(third).canary


async def test_without_a_share_the_candidate_is_not_asked() -> None:
    candidate = new()
    assert not any(seen(o).canary for o in (await outcomes_of(candidate, percent=0)).values())
    assert candidate.calls == 0


async def trial_of(
    candidate: Detector, *, canary: bool = False, failure: str | None = None
) -> CandidateCompared:
    told = detected("a", 0.0, box("bus", 0.8))
    event = msgspec.structs.replace(told, canary=canary, candidate_failure=failure)
    handler = Trial(Pair(in_service(), candidate), Pictures(), limit_seconds=0.05)
    outcome = await handler(envelopes([event])[0])
    assert isinstance(outcome, Done)
    (compared,) = outcome.events
    assert isinstance(compared, CandidateCompared)
    return compared


async def test_a_picture_is_compared_with_what_stands_in_the_log() -> None:
    event = await trial_of(new())
    assert (event.matched, event.missing, event.surplus, event.drift) == (1, 0, 0, 0.1)
    assert (event.reference, event.candidate, event.candidate_version) == ("test", "new", "7")
    assert (event.reference_ms, event.candidate_ms, event.canary) == (1.0, 9.0, False)
    assert event.boxes == (BUS,)


async def test_of_a_canary_the_detector_in_service_is_asked() -> None:
    candidate = new()
    event = await trial_of(candidate, canary=True)
    assert candidate.calls == 0
    assert (event.canary, event.candidate, event.reference) == (True, "test", "rt-detr")
    assert (event.matched, event.missing, event.surplus) == (0, 1, 1)
    assert [each.label for each in event.boxes] == ["car"]


async def test_a_failing_candidate_is_a_result_and_an_absent_picture_is_none() -> None:
    assert (await trial_of(new(ServiceUnavailableError("detector", "away")))).error == "away"
    assert (await trial_of(Hanging("new", BUS))).error == "no answer within 0.05 s"
    unasked = new()
    assert (await trial_of(unasked, failure="no answer")).error == "no answer"
    assert unasked.calls == 0
    gone = Trial(Pair(in_service(), new()), Pictures(PermanentError("gone")), limit_seconds=1)
    assert await gone(envelopes([detected("a")])[0]) == Done(passed_by=True)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Compared(failed=True), "2 failures over 2 of 20 pictures, above an error rate of 0.05"),
        (
            Compared(failed=False, share=0.0, latency_ms=5.0),
            "agreement of 0.00 over 5 of 20 pictures, below 0.8",
        ),
        (
            Compared(failed=False, share=1.0, latency_ms=101.0),
            "2 answers over 2 of 20 pictures took more than 100 ms",
        ),
    ],
)
def test_a_limit_is_broken_as_soon_as_the_window_cannot_keep_it(bad: Compared, says: str) -> None:
    told = [breach(LIMITS, [bad] * number) for number in range(7)]
    assert next(filter(None, told)) == says
    assert breach(LIMITS, [GOOD] * 50) is None
    assert breach(LIMITS, [bad] * 30 + [GOOD] * 20) is None  # That window is over.


def test_the_role_is_a_process_of_its_own_while_a_candidate_is_named(tmp_path: Path) -> None:
    places = plan.Places(state=tmp_path, cameras=tmp_path, host="127.0.0.1", port=8000)
    assert plan.trial(places, {}).contains == ("trial",)
    url = "http://127.0.0.1:8190"
    assert "trial" not in plan.pipeline_roles(Settings(candidate_rtdetr_url=url))
    assert Settings().trial_groups == ()
    assert Settings(candidate_rtdetr_url=url).trial_groups == ("trial_detector",)
