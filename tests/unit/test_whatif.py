"""What can be tried and when, pairs of events, and models that are asked again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from support.logs import NOON, box, detected

from domain.batching import CameraBatches
from domain.difference import Change, compare
from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.events import Box
from domain.risk import CameraView
from domain.whatif import CameraProgress, CameraReplay, EventOutcome, Found, Knobs, Tunables
from hsi.whatif.folder import RunFolder
from hsi.whatif.models import ModelSay, Redetector
from hsi.whatif.wishes import changed_settings, parse_sets, span_of
from inference.pictures import PictureStore
from inference.ports import Detected, ModelIdentity, Picture, RiskOpinion, RiskQuestion
from runtime.settings import SettingsError
from streams.replay import Timeline

TUNABLES = Tunables(
    batch_window_seconds=90,
    batch_idle_timeout_seconds=30,
    fast_path_confidence_threshold=0.9,
    fast_path_object_types=("person",),
    severity_low_max=29,
    severity_medium_max=59,
    severity_high_max=84,
    camera_timezone="UTC",
)
KNOBS = TUNABLES.knobs()
IDENTITY = ModelIdentity("other", "2", "http")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("REDIS_URL=redis://x", "decides no event"),
        ("BATCH_WINDOW_SECONDS", "write NAME=VALUE"),
        ("NEMOTRON_API=completion", "only asked with --refine"),
    ],
)
def test_what_cannot_be_tried_is_said(given: str, words: str) -> None:
    with pytest.raises(HsiError, match=words):
        parse_sets([given], refine=False)


def test_values_are_checked_like_the_settings_themselves(tmp_path: Path) -> None:
    empty = tmp_path / "empty.env"
    empty.touch()
    with pytest.raises(SettingsError, match="BATCH_WINDOW_SECONDS"):
        changed_settings(empty, {"BATCH_WINDOW_SECONDS": "0"})
    with pytest.raises(HsiError, match=r"boxes up to 0\.05"):
        changed_settings(empty, {"DETECTION_CONFIDENCE_THRESHOLD": "0.01"})
    assert changed_settings(empty, {"SEVERITY_LOW_MAX": "10"}).severity_low_max == 10


def test_spans_are_read_in_the_cameras_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    week = span_of("7d", None, None, now=NOON, zone=berlin)
    assert week == (NOON - timedelta(days=7), NOON)
    day = span_of(None, "2026-03-01", "2026-03-02T00:00Z", now=NOON, zone=berlin)
    assert day == (datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    ("last", "begin", "end", "words"),
    [
        (None, None, None, "either --last 7d, or --from"),
        ("7d", "2026-03-01", None, "either --last 7d, or --from"),
        ("7 days", None, None, "write 30m, 12h, 7d or 2w"),
        ("1h", None, "2026-03-01", "--to goes with --from"),
        (None, "yesterday", None, "is no time"),
        (None, "2026-03-02", "2026-03-01", "must be after"),
    ],
)
def test_other_spans_are_refused(
    last: str | None, begin: str | None, end: str | None, words: str
) -> None:
    with pytest.raises(HsiError, match=words):
        span_of(last, begin, end, now=NOON, zone=ZoneInfo("UTC"))


def test_a_runs_name_is_one_folder(tmp_path: Path) -> None:
    for name in ("../x", "", ".hidden", "a/b", "x" * 65):
        with pytest.raises(HsiError, match="is not a name"):
            RunFolder(tmp_path, name)


def test_what_was_in_force_at_a_moment() -> None:
    timeline: Timeline[str] = Timeline()
    for hour, value in enumerate("abc"):
        timeline.set(NOON + timedelta(hours=hour), value)
    hours = [NOON + timedelta(hours=hour) for hour in (-1, 0.5, 1, 9)]
    assert [timeline.at(moment) for moment in hours] == ["a", "a", "b", "c"]
    assert [v for _, v in timeline.within(hours[1], hours[2])] == ["a", "b"]
    assert [v for _, v in timeline.within(hours[0], hours[0])] == ["a"]


def events(*pictures: tuple[str, float, Box], knobs: Knobs = KNOBS) -> list[Found]:
    """Return what a camera's pictures become."""
    view = CameraView("Porch", entry_point=False)
    progress = CameraProgress(camera_id="porch", state=CameraBatches())
    replay = CameraReplay(progress, lambda _: view, knobs)
    found = []
    for name, seconds, seen in pictures:
        found += replay.sees(detected(name, seconds, seen), NOON, knobs)
    return found + replay.ends(knobs)


def outcomes(*pictures: tuple[str, float, Box]) -> list[EventOutcome]:
    return [one.outcome for one in events(*pictures)]


def test_an_event_that_lost_its_first_picture_is_still_the_same_one() -> None:
    before = outcomes(("a", 0, box()), ("b", 10, box()), ("c", 20, box()), ("x", 999, box()))
    after = outcomes(("b", 10, box()), ("c", 20, box()), ("x", 999, box()))
    changes = compare(before, after)
    assert [(c.kind, c.shown.picture_ids) for c in changes] == [("details", ("b", "c"))]
    assert changes[0].before == before[0]


def test_of_two_halves_the_one_that_shares_more_is_the_same_event() -> None:
    whole = outcomes(*((name, 10.0 * n, box()) for n, name in enumerate("abcde")))
    halves = outcomes(("b", 10, box()), ("c", 100, box()), ("d", 101, box()), ("e", 102, box()))
    changes = compare(whole, halves)
    assert [c.shown.picture_ids for c in changes if c.before] == [("c", "d", "e")]
    assert [c.shown.picture_ids for c in changes if c.kind == "gained"] == [("b",)]
    assert compare(whole, whole) == []


def test_level_counts_before_score_and_a_change_has_a_side() -> None:
    (one,) = outcomes(("a", 0, box()))
    (change,) = compare([one], [replace(one, score=99, level="critical")])
    assert change.kind == "level"
    with pytest.raises(ValueError, match="without a side"):
        Change(kind="lost").started_at  # noqa: B018


def test_settings_that_change_close_what_the_old_ones_would_have_closed() -> None:
    view = CameraView("Porch", entry_point=False)
    progress = CameraProgress(camera_id="porch", state=CameraBatches())
    replay = CameraReplay(progress, lambda _: view, KNOBS)
    assert replay.sees(detected("a", 0), NOON, KNOBS) == []
    patient = replace(TUNABLES, batch_idle_timeout_seconds=3600, batch_window_seconds=3600)
    found = replay.sees(detected("b", 60), NOON + timedelta(seconds=60), patient.knobs())
    assert [one.outcome.picture_ids for one in found] == [("a",)]


class OtherDetector:
    """Sees a dog in every picture."""

    max_batch = 2

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        assert len(pictures) <= self.max_batch
        return [Detected((box("dog", 0.7),), IDENTITY, 1.0) for _ in pictures]

    async def check(self) -> ModelIdentity:
        return IDENTITY

    async def close(self) -> None:
        """Nothing is open."""


async def test_pictures_are_looked_at_again_and_what_is_gone_keeps_its_boxes(
    tmp_path: Path,
) -> None:
    (tmp_path / "porch").mkdir()
    for name in ("a", "b", "d"):
        pixels = np.zeros((48, 64, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / "porch" / f"{name}.jpg"), pixels)
    redetector = Redetector(OtherDetector(), PictureStore(tmp_path, tmp_path))
    again = await redetector.again([detected(name) for name in "abcd"])
    assert [one.boxes[0].label for one in again] == ["dog", "dog", "car", "dog"]
    assert [one.model for one in again] == ["other", "other", "test", "other"]
    assert (redetector.asked, redetector.gone) == (3, 1)


class Opinions:
    """Answers one prepared thing after the other."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers: Sequence[int | Exception] = answers
        self.questions: list[RiskQuestion] = []

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        answer = self.answers[len(self.questions)]
        self.questions.append(question)
        if isinstance(answer, Exception):
            raise answer
        return RiskOpinion(answer, "said", "since", "m", "v", "0", "{}", 1, 1, 0.1)

    async def check(self) -> str:
        return "m"

    async def close(self) -> None:
        """Nothing is open."""


def say(model: Opinions, *, model_changed: bool = False) -> ModelSay:
    knobs: Timeline[Knobs] = Timeline()
    knobs.set(NOON, KNOBS)
    return ModelSay(model, knobs, {}, model_changed=model_changed)


async def test_only_events_that_differ_are_asked_about() -> None:
    (found,) = events(("a", 0, box()))
    known = {found.outcome.event_id: replace(found.outcome, summary="of then", refined=True)}
    model = Opinions(90, 90)
    kept = await say(model).refined(found, known)
    assert (kept.summary, model.questions) == ("of then", [])
    asked = await say(model).refined(found, {})
    assert (asked.refined, asked.summary) == (True, "said")
    assert asked.score == found.outcome.score + 20  # as far as a model may move it
    other = await say(model, model_changed=True).refined(found, known)
    assert other == asked


async def test_a_model_without_a_usable_answer_leaves_the_rules_score() -> None:
    (found,) = events(("a", 0, box()))
    unusable = say(Opinions(*[TransientError("no JSON")] * 3))
    assert await unusable.refined(found, {}) == found.outcome
    assert (unusable.asked, unusable.unusable) == (3, 1)
    refused = say(Opinions(PermanentError("too long")))
    assert await refused.refined(found, {}) == found.outcome
    away = say(Opinions(ServiceUnavailableError("risk_model", "away")))
    with pytest.raises(ServiceUnavailableError):
        await away.refined(found, {})
