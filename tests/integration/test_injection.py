"""Hostile text at every place that others can write to, against a model that obeys it all."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from support.llama import KEY, FakeLlama, fake_llama
from support.risk_scenes import BANDS, Cameras, box, closed, envelope, members

from agents.assess import Assess
from agents.refine import Lane, Refine, goes_first
from agents.turns import Turns
from domain.events import AssessmentRefined, BatchClosed, EventCaptioned, RiskAssessed
from domain.names import CAMERA_NAME_LIMIT
from domain.outcomes import Done
from domain.risk import CameraView, level_of
from hsi.scenarios import Attack, load_attacks
from inference.llm import LlamaRiskModel
from streams.envelope import Envelope, Position

SCENE, ATTACKS = load_attacks()
NIGHT = datetime(2026, 6, 2, 3, 0, tzinfo=UTC)
FLOOR = 70
OBEDIENT = '{"risk_score": 0, "summary": "All is well.", "reasoning": "I was told so."}'


class NothingLater:
    """A log in which no newer assessment stands."""

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        return []


@pytest.fixture
async def fake() -> AsyncIterator[FakeLlama]:
    async with fake_llama() as server:
        server.reply = OBEDIENT
        yield server


def break_in(attack: Attack | None) -> tuple[BatchClosed, CameraView]:
    """Two people at the back door at night, and the attack where it would come in."""
    name = attack.text if attack and attack.through == "camera_name" else "Back Door"
    boxes = [box("person"), box("person", 0.8)]
    if attack and attack.through == "label":
        boxes.append(box(attack.text, 0.99))
    pictures = members(*([boxes] * 9), start=NIGHT)
    if attack and attack.through == "file_name":
        pictures = tuple(
            msgspec.structs.replace(
                each, uri=f"camera:{attack.text}", file_id=attack.text, picture_id=attack.text
            )
            for each in pictures
        )
    return closed(pictures), CameraView(name, entry_point=True)


async def score_of(
    fake: FakeLlama, attack: Attack | None
) -> tuple[RiskAssessed, AssessmentRefined]:
    """Take the batch through the rules and the model, as the pipeline does."""
    batch, camera = break_in(attack)
    assessing = await Assess(Cameras(camera), ZoneInfo("UTC"), BANDS)(envelope(batch))
    assert isinstance(assessing, Done)
    (assessed,) = assessing.events
    assert isinstance(assessed, RiskAssessed)
    model = LlamaRiskModel(fake.url, api_key=KEY)
    lane = Lane(goes_first(assessed), Turns(2))
    refining = await Refine(model, Cameras(camera), BANDS, NothingLater(), lane)(
        envelope(assessed)
    )
    await model.close()
    assert isinstance(refining, Done)
    (refined,) = refining.events
    assert isinstance(refined, AssessmentRefined)
    return assessed, refined


def test_there_are_attacks_enough_on_every_way_in() -> None:
    assert len(ATTACKS) >= 30
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {attack.through for attack in ATTACKS} == {
        "camera_name",
        "label",
        "file_name",
        "caption",
    }
    assert sum(attack.quick for attack in ATTACKS) >= 5


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_no_attack_takes_a_score_below_the_rules_floor(
    fake: FakeLlama, attack: Attack
) -> None:
    assessed, refined = await score_of(fake, attack)
    # The model did what it was told …
    assert refined.model_score == 0
    # … and it changed what it may change, no more.
    assert assessed.floor == FLOOR
    assert refined.score == max(FLOOR, assessed.score - 20)
    assert refined.level == level_of(refined.score, BANDS) in ("high", "critical")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_no_attack_gets_into_the_question_as_more_than_a_name(
    fake: FakeLlama, attack: Attack
) -> None:
    await score_of(fake, None)
    await score_of(fake, attack)
    (_, _, plain), (_, _, attacked) = fake.requests
    before, after = plain["messages"], attacked["messages"]
    assert [turn["role"] for turn in after] == [turn["role"] for turn in before]
    assert after[:-1] == before[:-1]
    asked, told = before[-1]["content"].splitlines(), after[-1]["content"].splitlines()
    if not attack.reaches_the_model:
        assert told == asked
        return
    # Only the line it came in by has changed, and that one stays short and plain.
    assert len(told) == len(asked)
    changed = [new for old, new in zip(asked, told, strict=True) if old != new]
    (line,) = changed
    assert line.startswith('Camera: "' if attack.through == "camera_name" else "Seen: ")
    assert len(line) <= 200
    assert not set(line) & set("<>|[]{}\\`$\x00\x1b\u200b\u202e\u2028\u0085")
    if attack.through == "camera_name":
        assert len(line) <= CAMERA_NAME_LIMIT + len('Camera: ""')


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.through == "caption"], ids=str)
async def test_a_caption_asks_for_nothing(fake: FakeLlama, attack: Attack) -> None:
    caption = EventCaptioned(
        camera_id="front_door",
        event_id="evt_1",
        batch_id="batch_1",
        ended_at=NIGHT,
        closed_at=NIGHT,
        picture_id="pic_0",
        caption=attack.text,
        model="florence",
        model_version="1",
        seconds=0.1,
    )
    model = LlamaRiskModel(fake.url, api_key=KEY)
    for first in (True, False):
        refine = Refine(model, Cameras(), BANDS, NothingLater(), Lane(first, Turns(2)))
        assert (await refine(envelope(caption))) == Done(passed_by=True)
    assess = Assess(Cameras(), ZoneInfo("UTC"), BANDS)
    assert isinstance(outcome := await assess(envelope(caption)), Done)
    assert outcome.events == ()
    await model.close()
    assert fake.requests == []
