"""When a camera's view has changed: what is said, once, and what the baseline is then."""

from datetime import timedelta

import pytest
from support.logs import NOON
from support.scenes import Camera, view_at

from domain.events import (
    Event,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChecked,
    SceneRestored,
    SceneVerdict,
)
from domain.scene_changes import Look, SceneState, evolve, is_due, structure_limit, verdict_of
from domain.scene_tuning import CameraTrials

SAME = Look(similarity=0.97, structure=1.0, flat=0.0)
RELIT = Look(similarity=0.4, structure=0.9, flat=0.0)
HALF = Look(similarity=0.4, structure=0.5, flat=0.0)
BLOCKED = Look(similarity=0.02, structure=0.0, flat=1.0)
TURNED = Look(similarity=0.3, structure=0.1, flat=0.0, moved=0.2)
REPLACED = Look(similarity=0.3, structure=0.05, flat=0.1)
ODD = Look(similarity=0.5, structure=0.4, flat=0.2)


@pytest.fixture
def camera() -> Camera:
    """Return a camera that has its baseline."""
    camera = Camera()
    camera.sees(0, SAME)
    return camera


def kinds(events: tuple[Event, ...]) -> list[type[Event]]:
    return [type(event) for event in events]


def changes(camera: Camera) -> list[str]:
    return [event.change_type for event in camera.events if isinstance(event, SceneChanged)]


def acknowledge(camera: Camera, change_id: str) -> None:
    event = SceneChangeAcknowledged(camera_id="yard", change_id=change_id, actor="ann")
    camera.state = evolve(camera.state, event)


@pytest.mark.parametrize(
    ("look", "threshold", "expected"),
    [
        (SAME, 0.90, "same"),
        (SAME, 1.00, "relit"),
        (RELIT, 0.90, "relit"),
        (HALF, 0.90, "relit"),
        (HALF, 1.00, "unknown"),
        (ODD, 0.90, "unknown"),
        (ODD, 0.60, "relit"),
        (BLOCKED, 0.90, "view_blocked"),
        (BLOCKED, 0.50, "view_blocked"),
        (TURNED, 0.90, "angle_changed"),
        (REPLACED, 0.90, "view_tampered"),
        (Look(0.4, 0.3, 0.0, moved=0.01), 0.90, "relit"),
        (Look(0.4, 0.0, 0.7), 0.90, "view_tampered"),
    ],
)
def test_verdicts(look: Look, threshold: float, expected: SceneVerdict) -> None:
    assert verdict_of(look, threshold) == expected


def test_the_higher_the_threshold_the_less_must_change() -> None:
    limits = [structure_limit(threshold) for threshold in (0.5, 0.7, 0.9, 1.0)]
    assert limits == sorted(limits)
    assert limits[0] > 0
    assert limits[-1] < 0.6


def test_the_first_picture_is_the_baseline() -> None:
    camera = Camera()
    assert kinds(camera.sees(0, BLOCKED)) == [SceneBaselineSet]
    assert camera.state.baseline == view_at(0)
    assert kinds(camera.sees(5, SAME)) == [SceneChecked]


def test_a_change_is_said_once_with_both_pictures(camera: Camera) -> None:
    _, changed = camera.sees(5, BLOCKED)
    assert isinstance(changed, SceneChanged)
    assert (changed.view, changed.baseline) == (view_at(5), view_at(0))
    assert (changed.severity, changed.similarity, changed.threshold) == ("high", 0.02, 0.90)
    for seconds in range(10, 200, 5):
        assert kinds(camera.sees(seconds, BLOCKED)) == [SceneChecked]
    assert changes(camera) == ["view_blocked"]


def test_what_is_not_sure_must_show_twice_in_a_row(camera: Camera) -> None:
    for number in range(3):
        camera.sees(10 * number + 5, REPLACED)  # Somebody walks close by the lens.
        camera.sees(10 * number + 10, RELIT)
    assert changes(camera) == []
    camera.sees(100, ODD)
    camera.sees(105, REPLACED)
    assert changes(camera) == ["view_tampered"]


def test_a_turned_camera_that_is_covered_too_says_both(camera: Camera) -> None:
    for seconds, look in enumerate([TURNED, REPLACED, TURNED, BLOCKED, BLOCKED, ODD, TURNED]):
        camera.sees(5 * seconds + 5, look)
    assert changes(camera) == ["angle_changed", "view_blocked"]


def test_a_view_that_is_back_ends_the_change_and_may_change_anew(camera: Camera) -> None:
    _, changed = camera.sees(5, BLOCKED)
    assert isinstance(changed, SceneChanged)
    assert kinds(camera.sees(10, HALF)) == [SceneChecked]  # Too little of it is back.
    _, restored = camera.sees(15, RELIT)
    assert isinstance(restored, SceneRestored)
    assert restored.change_ids == (changed.change_id,)
    assert kinds(camera.sees(20, SAME)) == [SceneChecked]
    camera.sees(25, BLOCKED)
    assert changes(camera) == ["view_blocked"] * 2
    assert camera.state.baseline == view_at(0)


def test_an_acknowledged_change_is_the_baseline(camera: Camera) -> None:
    _, changed = camera.sees(5, TURNED)
    assert isinstance(changed, SceneChanged)
    acknowledge(camera, "another")
    assert camera.state.baseline == view_at(0)
    acknowledge(camera, changed.change_id)
    after = camera.state
    assert (after.baseline, after.open) == (view_at(5), ())
    acknowledge(camera, changed.change_id)
    assert camera.state == after
    assert kinds(camera.sees(10, SAME)) == [SceneChecked]
    camera.sees(15, BLOCKED)
    assert changes(camera) == ["angle_changed", "view_blocked"]


def test_a_change_that_is_over_is_only_seen(camera: Camera) -> None:
    _, changed = camera.sees(5, BLOCKED)
    assert isinstance(changed, SceneChanged)
    camera.sees(10, SAME)
    acknowledge(camera, changed.change_id)
    assert camera.state.baseline == view_at(0)


def test_another_light_is_adopted_slowly_and_never_with_a_change_in_it(camera: Camera) -> None:
    assert kinds(camera.sees(590, RELIT)) == [SceneChecked]
    assert kinds(camera.sees(595, SAME)) == [SceneChecked]
    assert kinds(camera.sees(700, HALF)) == [SceneChecked]
    assert kinds(camera.sees(705, RELIT)) == [SceneChecked, SceneBaselineSet]
    assert camera.state.baseline == view_at(705)
    camera.sees(710, BLOCKED)
    camera.sees(9000, HALF)
    assert camera.state.baseline == view_at(705)
    day = 86_400 + 9005
    camera.sees(day, SAME)  # Ends the change.
    assert kinds(camera.sees(day + 5, SAME)) == [SceneChecked, SceneBaselineSet]


def test_one_picture_an_interval_is_checked_by_its_own_clock() -> None:
    state, every = SceneState(), timedelta(seconds=5)
    assert is_due(state, NOON, every)
    checked = SceneState(checked_at=NOON)
    due = {s for s in range(-4000, 10) if is_due(checked, NOON + timedelta(seconds=s), every)}
    assert due == {*range(-4000, -3599), *range(5, 10)}


def test_times_and_ids_follow_from_the_pictures(camera: Camera) -> None:
    one, other = Camera(), Camera()
    for each in (one, other):
        each.sees(0, SAME)
        each.sees(5, BLOCKED)
    assert one.events == other.events
    assert [e.occurred_at for e in one.events] == [
        NOON,
        *[NOON + timedelta(seconds=5)] * 2,
    ]


def test_other_thresholds_are_tried_on_what_was_checked(camera: Camera) -> None:
    looks = [SAME, HALF, HALF, ODD, ODD, SAME, BLOCKED, SAME]
    for number, look in enumerate(looks):
        camera.sees(5 * number + 5, look)
    tried = CameraTrials()
    for event in camera.events:
        tried.sees(event)
    said = {trial.threshold: trial.said for trial in tried.trials}
    assert said[0.9] == changes(camera) == ["unknown", "view_blocked"]
    assert said[0.5] == said[0.8] == ["view_blocked"]
    assert said[1.0] == ["unknown", "view_blocked"]
    assert (tried.checked, tried.lowest_similarity, tried.lowest_structure) == (8, 0.02, 0.0)


def test_a_trial_begins_anew_where_the_baseline_did(camera: Camera) -> None:
    _, changed = camera.sees(5, TURNED)
    assert isinstance(changed, SceneChanged)
    seen = SceneChangeAcknowledged(camera_id="yard", change_id=changed.change_id)
    camera.state = evolve(camera.state, seen)
    camera.events.append(seen)
    camera.sees(10, TURNED)
    tried = CameraTrials([0.9])
    for event in camera.events:
        tried.sees(event)
    assert tried.trials[0].said == changes(camera) == ["angle_changed"] * 2
