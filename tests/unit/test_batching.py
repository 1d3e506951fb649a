"""The batching rules, given/when/then: which pictures are one event, and when that is known."""

from datetime import timedelta

import pytest
from support.batches import Camera, folded
from support.logs import NOON, POLICY, box, detected

from domain import batching
from domain.batching import CameraBatches, next_deadline
from domain.detection import counted
from domain.events import BatchClosed, BatchEscalated, Box, PictureBatched
from domain.ids import batch_id, event_id


def at(seconds: float) -> str:
    return f"p{seconds:g}"


def camera_that_saw(*seconds: float) -> Camera:
    """Return a camera with one car at each moment, recorded half a second later."""
    camera = Camera()
    for moment in seconds:
        camera.sees(detected(at(moment), moment), moment + 0.5)
    return camera


@pytest.mark.parametrize(("score", "count"), [(0.49, 0), (0.50, 1), (0.51, 1)])
def test_a_box_counts_from_the_threshold_on(score: float, count: int) -> None:
    assert len(counted(detected("a", 0, box(score=score)))) == count


def test_a_picture_without_detections_leads_to_nothing() -> None:
    camera = Camera()
    assert camera.sees(detected("a", 0, box(score=0.49)), 0.5) == ()
    assert camera.state == CameraBatches()


def test_fifteen_pictures_in_thirty_seconds_are_one_event() -> None:
    camera = camera_that_saw(*(2.0 * number for number in range(15)))
    camera.end()
    (batch,) = camera.closed
    assert (len(batch.members), batch.reason) == (15, "idle")
    assert batch.batch_id == batch_id("porch", "p0")
    assert batch.event_id == event_id(batch.batch_id)
    assert (batch.started_at, batch.ended_at) == (NOON, NOON + timedelta(seconds=28))


@pytest.mark.parametrize(("gap", "batches"), [(30.0, 1), (30.001, 2), (31.0, 2)])
def test_the_idle_gap_separates_events(gap: float, batches: int) -> None:
    camera = camera_that_saw(0.0, gap)
    camera.end()
    assert len(camera.closed) == batches


def test_a_hundred_seconds_without_a_pause_close_at_the_window() -> None:
    camera = camera_that_saw(*(float(second) for second in range(0, 101, 2)))
    camera.end()
    assert camera.sizes() == [(45, "window"), (6, "idle")]
    first, second = camera.closed
    assert first.ended_at - first.started_at == timedelta(seconds=88)
    assert second.started_at == NOON + timedelta(seconds=90)


def test_a_sure_person_escalates_at_once_and_once() -> None:
    camera = Camera()
    camera.sees(detected("a", 0, box("car")), 0.1)
    joined, escalated = camera.sees(detected("b", 1, box("person", 0.90)), 1.1)
    assert isinstance(joined, PictureBatched)
    assert isinstance(escalated, BatchEscalated)
    assert [m.picture_id for m in escalated.members] == ["a", "b"]
    assert escalated.trigger == box("person", 0.90)
    assert escalated.event_id == event_id(batch_id("porch", "a"))
    camera.sees(detected("c", 2, box("person", 0.99)), 2.1)
    assert len(camera.escalated) == 1
    camera.end()
    (batch,) = camera.closed
    assert batch.is_fast_path
    assert batch.event_id == escalated.event_id


def test_the_next_batch_escalates_anew() -> None:
    camera = Camera()
    for start in (0, 100):
        camera.sees(detected(f"a{start}", start, box("person", 0.95)), start + 0.1)
    assert [e.batch_id for e in camera.escalated] == [
        batch_id("porch", "a0"),
        batch_id("porch", "a100"),
    ]


@pytest.mark.parametrize("slow", [box("person", 0.89), box("dog", 0.99)])
def test_a_less_sure_person_or_a_dog_waits_for_the_batch(slow: Box) -> None:
    camera = Camera()
    camera.sees(detected("a", 0, slow), 0.1)
    camera.end()
    assert camera.escalated == []
    assert not camera.closed[0].is_fast_path


def test_the_surest_box_is_the_trigger() -> None:
    camera = Camera()
    boxes = (box("dog", 0.99), box("person", 0.91), box("person", 0.93))
    camera.sees(detected("a", 0, *boxes), 0.1)
    assert camera.escalated[0].trigger == box("person", 0.93)


def test_a_picture_out_of_order_joins_and_stretches_the_batch_backwards() -> None:
    camera = camera_that_saw(60.0)
    camera.sees(detected("late", 35), 61.0)
    camera.end()
    (batch,) = camera.closed
    assert batch.started_at == NOON + timedelta(seconds=35)
    assert batch.ended_at == NOON + timedelta(seconds=60)
    assert batch.batch_id == batch_id("porch", "p60")


@pytest.mark.parametrize("moment", [29.9, -100.0])
def test_a_picture_that_comes_too_late_is_an_event_of_its_own(moment: float) -> None:
    camera = camera_that_saw(60.0)
    joined, closed = camera.sees(detected("late", moment, box("person", 0.95)), 61.0)
    assert isinstance(joined, PictureBatched)
    assert isinstance(closed, BatchClosed)
    assert joined.late
    assert (closed.reason, closed.is_fast_path) == ("late", True)
    assert [m.picture_id for m in closed.members] == ["late"]
    camera.sees(detected("next", 62), 62.5)
    camera.end()
    assert camera.sizes() == [(1, "late"), (2, "idle")]


def test_a_late_picture_never_stretches_a_batch_to_the_window() -> None:
    camera = camera_that_saw(30.0, 55.0, 80.0, 105.0, 119.0)
    camera.sees(detected("early", 29.0), 119.6)
    camera.end()
    assert camera.sizes() == [(1, "late"), (5, "window")]


def test_a_full_batch_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_MEMBERS", 3)
    camera = camera_that_saw(0, 1, 2, 3, 4)
    camera.end()
    assert camera.sizes() == [(3, "full"), (2, "idle")]


def test_the_logs_clock_closes_what_no_picture_closes() -> None:
    camera = camera_that_saw(0.0)
    assert next_deadline(camera.state, POLICY) == NOON + timedelta(seconds=31.5)
    assert camera.clock(31.499) == ()
    (closed,) = camera.clock(31.5)
    assert isinstance(closed, BatchClosed)
    assert closed.reason == "idle"
    assert camera.clock(1000) == ()
    assert next_deadline(camera.state, POLICY) is None


def test_the_logs_clock_closes_at_the_window_where_that_ends_first() -> None:
    # A backlog: pictures of one minute, recorded over more than the window.
    camera = Camera()
    for number in range(4):
        camera.sees(detected(f"p{number}", number), 29.0 * number)
    assert next_deadline(camera.state, POLICY) == NOON + timedelta(seconds=91)
    camera.clock(500)
    assert camera.sizes() == [(4, "window")]


def test_a_picture_recorded_after_the_deadline_finds_the_batch_closed() -> None:
    with_timer, without = camera_that_saw(0.0), camera_that_saw(0.0)
    with_timer.clock(32)
    for camera in (with_timer, without):
        # By event time it would join, or be late; the log's clock has closed before that.
        camera.sees(detected("b", 10), 40)
        camera.sees(detected("c", -50), 80)
        camera.end()
    assert with_timer.events == without.events
    assert with_timer.sizes() == [(1, "idle"), (1, "idle"), (1, "idle")]


def test_the_baseline_counts_earlier_days_with_this_hour() -> None:
    camera = Camera()
    day = 86_400
    for number, start in enumerate((0, 3600, 7200, day, 3 * day)):
        camera.sees(detected(f"p{number}", start), start)
        camera.end()
    found = [(b.baseline.days_observed, b.baseline.same_hour) for b in camera.closed]
    assert found == [(0, 0), (0, 0), (0, 0), (1, 1), (2, 2)]


def test_the_baseline_knows_kinds_apart_and_a_person_comes_first() -> None:
    camera = Camera()
    camera.sees(detected("a", 0, box("car"), box("car"), box("person", 0.6)), 0)
    camera.end()
    day = 86_400
    camera.sees(detected("b", day, box("car")), day)
    camera.end()
    camera.sees(detected("c", 2 * day, box("person", 0.6)), 2 * day)
    camera.end()
    assert [b.baseline.same_hour for b in camera.closed] == [0, 0, 1]


def test_midnight_is_beside_the_last_hour_of_the_day() -> None:
    camera = Camera()
    for number, start in enumerate((11.5 * 3600, 12.5 * 3600)):  # 23:30, and 00:30 the next day
        camera.sees(detected(f"p{number}", start), start)
        camera.end()
    assert [b.baseline.same_hour for b in camera.closed] == [0, 1]


def test_one_wrongly_dated_picture_makes_no_history() -> None:
    camera = Camera()
    camera.sees(detected("old", -4447 * 86_400), 0)
    camera.end()
    camera.sees(detected("new", 100), 100)
    camera.end()
    assert camera.closed[-1].baseline.days_observed == 1


def test_the_events_rebuild_the_state() -> None:
    camera = camera_that_saw(0, 1, 40, 41, 20, 100)
    assert folded(camera.events) == camera.state


def test_the_same_pictures_make_the_same_events() -> None:
    assert camera_that_saw(0, 5, 50, 200).events == camera_that_saw(0, 5, 50, 200).events
