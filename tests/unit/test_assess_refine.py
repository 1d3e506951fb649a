"""The handlers of assessing and refining: which event leads to which outcome."""

import asyncio
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import msgspec
import pytest
from support.risk_scenes import (
    BANDS,
    NOON,
    Cameras,
    assessed,
    box,
    closed,
    envelope,
    escalated,
    facts,
    members,
)

from agents.assess import Assess
from agents.refine import Lane, Refine
from agents.turns import Turns
from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.events import (
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    EventReviewed,
    PictureBatched,
    RiskAssessed,
)
from domain.outcomes import Done, Park, Retry
from domain.prompt import UnusableReplyError
from domain.risk import CameraView
from inference.ports import RiskOpinion, RiskQuestion
from streams.envelope import Envelope, Position

PICTURES = members([box("person")], [box("person")])
OPINION = RiskOpinion(
    score=100,
    summary="A person at the door.",
    reasoning="It is night.",
    model="tiny",
    prompt_version="risk-v1",
    prompt_sha256="0" * 64,
    raw_text="{}",
    tokens_in=900,
    tokens_out=60,
    seconds=4.2,
)


@dataclass
class Model:
    """A risk model that answers, or fails, as it is told."""

    answer: RiskOpinion | BaseException = OPINION
    asked: list[RiskQuestion] = field(default_factory=list)

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        self.asked.append(question)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def check(self) -> str:
        return "tiny"

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("batch", "stage"), [(closed(PICTURES), "final"), (escalated(PICTURES), "fast_path")]
)
async def test_a_batch_is_assessed(batch: BatchClosed | BatchEscalated, stage: str) -> None:
    camera = CameraView("Back Door", entry_point=True)
    assess = Assess(Cameras(camera), ZoneInfo("Asia/Tokyo"), BANDS, 3600)
    outcome = await assess(envelope(batch))
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, RiskAssessed)
    assert event.stage == stage
    assert event.alert_within_seconds == 3600
    assert event.summary == "1 person at Back Door for 5 s at 21:00 (evening)"


async def test_a_picture_that_joined_a_batch_is_not_assessed() -> None:
    event = PictureBatched(
        camera_id="front_door", batch_id="batch_1", member=PICTURES[0], detected_at=NOON
    )
    assert await Assess(Cameras(), ZoneInfo("UTC"), BANDS)(envelope(event)) == Done()


def refiner(
    model: "Model",
    log: "Log | None" = None,
    camera: CameraView | None = None,
    *,
    first: bool = False,
) -> Refine:
    cameras = Cameras(camera) if camera else Cameras()
    return Refine(model, cameras, BANDS, log or Log(), Lane(first, Turns(2)))


class Log:
    """Answers what stands behind an assessment."""

    def __init__(self, *later: Envelope) -> None:
        self.later = list(later)

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        return self.later[:count]


async def test_a_fast_path_assessment_that_was_overtaken_is_passed_by() -> None:
    # given an early assessment, and behind it in the log the final one of the same event
    early = msgspec.structs.replace(assessed(facts("person")), stage="fast_path")
    final = envelope(assessed(facts("person")))
    model = Model(AssertionError("never asked"))
    # when the model's turn comes, then it is spared
    refine = refiner(model, Log(final), first=True)
    assert await refine(envelope(early)) == Done(passed_by=True)
    # and an early assessment that still stands is refined
    model = Model()
    await refiner(model, first=True)(envelope(early))
    assert len(model.asked) == 1


async def test_an_assessment_is_refined() -> None:
    # given an assessment of a night scene, whose floor is 60
    rules = assessed(facts("person", part="night"), entry_point=True)
    rules = msgspec.structs.replace(rules, alert_within_seconds=3600)
    model = Model()
    # when it is refined
    refine = refiner(model, camera=CameraView("Back", entry_point=True))
    outcome = await refine(envelope(rules))
    # then the model was told what the rules found, and its say is bounded
    (question,) = model.asked
    assert (question.camera_name, question.rule_score, question.floor) == ("Back", 62, 60)
    assert question.signal_lines[0] == "Sign: A person was seen. (+12)"
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, AssessmentRefined)
    assert (event.model_score, event.score, event.level) == (100, 82, "high")
    assert event.ended_at == NOON
    assert event.alert_within_seconds == 3600


async def test_a_refinement_is_not_refined_again() -> None:
    event = EventReviewed(camera_id="front_door", event_id="evt_1", reviewed=True)
    model = Model(AssertionError("never asked"))
    assert await refiner(model)(envelope(event)) == Done(passed_by=True)


@pytest.mark.parametrize(
    ("error", "outcome", "after"),
    [
        (ServiceUnavailableError("risk_model", "loading", retry_after=3), Retry, 3),
        (TransientError("busy"), Retry, None),
        (UnusableReplyError("truncated", "cut off", "{"), Retry, None),
        (PermanentError("too long"), Park, None),
    ],
)
async def test_an_error_says_what_becomes_of_the_entry(
    error: HsiError, outcome: type[Retry] | type[Park], after: float | None
) -> None:
    found = await refiner(Model(error))(envelope(assessed(facts("person"))))
    assert isinstance(found, outcome)
    assert found.error is error
    if isinstance(found, Retry):
        assert found.after == after
        assert found.model == ("tiny" if isinstance(error, UnusableReplyError) else None)


async def test_a_cancelled_question_stays_cancelled() -> None:
    refine = refiner(Model(asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await refine(envelope(assessed(facts("person"))))


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({}, False),
        ({"level": "medium"}, False),
        ({"level": "high"}, True),
        ({"level": "critical"}, True),
        ({"is_fast_path": True}, True),
        ({"stage": "fast_path"}, True),
    ],
)
async def test_each_assessment_belongs_to_one_lane(change: dict[str, object], first: bool) -> None:
    # given an assessment, and a handler of either lane
    entry = envelope(msgspec.structs.replace(assessed(facts("person")), **change))
    models = {True: Model(), False: Model()}
    # when both lanes come to it
    outcomes = {lane: await refiner(models[lane], first=lane)(entry) for lane in models}
    # then its own lane asked the model, and the other passed it by
    assert len(models[first].asked) == 1
    assert models[not first].asked == []
    assert outcomes[not first] == Done(passed_by=True)
    assert outcomes[first] != Done(passed_by=True)
