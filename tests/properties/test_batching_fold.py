"""Whatever comes, in whatever order: every picture is in one batch, and a replay agrees."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.batches import Camera, Given, folded, run_of
from support.logs import NOON, POLICY, box, detected

from domain.batching import MOST_MEMBERS, CameraBatches, expire, next_deadline
from domain.events import BatchClosed, PictureBatched

_boxes = st.sampled_from(
    [(box("car", 0.8),), (box("person", 0.95),), (box("dog", 0.3),), (box("dog"), box("cat"))]
)
# Steps near the idle gap, the window and the grace are what the rules turn on.
_steps = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 29.0, 30.0, 31.0, 32.0, 59.0, 90.0, 91.0, 200.0]),
    st.integers(0, 120).map(float),
)
_delays = st.one_of(st.sampled_from([0.0, 0.2, 31.0]), st.integers(0, 200).map(float))


@st.composite
def logs(draw: st.DrawFn) -> list[Given]:
    """Return pictures as the log took them in: recorded in order, captured in any order."""
    recorded = 0.0
    rows: list[Given] = []
    for number in range(draw(st.integers(0, 14))):
        recorded += draw(_steps)
        captured = recorded - draw(_delays)
        picture = detected(f"p{number}", captured, *draw(_boxes))
        rows.append((picture, NOON + timedelta(seconds=recorded)))
    return rows


_settings = settings(max_examples=150, deadline=None)


@given(logs())
@_settings
def test_every_picture_with_a_detection_is_in_one_batch(log: list[Given]) -> None:
    camera = run_of(log)
    wanted = sorted(d.picture_id for d, _ in log if d.boxes[0].score >= 0.5)
    assert sorted(m.picture_id for b in camera.closed for m in b.members) == wanted
    assert sorted(j.member.picture_id for j in camera.joined) == wanted
    assert len({b.batch_id for b in camera.closed}) == len(camera.closed)
    assert camera.state.open is None
    days = {batch.started_at.astimezone(POLICY.zone).date() for batch in camera.closed}
    assert camera.state.usual.all.days <= len(days)


@given(logs())
@_settings
def test_no_batch_is_longer_than_the_window_or_overfull(log: list[Given]) -> None:
    for batch in run_of(log).closed:
        moments = [m.captured_at for m in batch.members]
        assert (batch.started_at, batch.ended_at) == (min(moments), max(moments))
        assert batch.ended_at - batch.started_at < POLICY.window
        assert len(batch.members) <= MOST_MEMBERS
        gaps = [
            later - earlier
            for earlier, later in zip(sorted(moments), sorted(moments)[1:], strict=False)
        ]
        assert all(gap <= POLICY.idle for gap in gaps)


@given(logs())
@_settings
def test_a_batch_is_escalated_once_and_only_for_its_first_fast_picture(log: list[Given]) -> None:
    camera = run_of(log)
    ids = [e.batch_id for e in camera.escalated]
    assert len(ids) == len(set(ids))
    for batch in camera.closed:
        fast = any(b == box("person", 0.95) for m in batch.members for b in m.detections)
        assert batch.is_fast_path == fast
        assert (batch.batch_id in ids) == (fast and batch.reason != "late")


@given(logs(), st.data())
@_settings
def test_a_take_over_anywhere_makes_the_same_events(log: list[Given], data: st.DataObject) -> None:
    whole = run_of(log)
    cut = data.draw(st.integers(0, len(log)))
    first = Camera()
    for picture, recorded in log[:cut]:
        first.sees(picture, recorded)
    heir = Camera()
    heir.events = list(first.events)
    heir.state = folded(first.events)
    assert heir.state == first.state
    for picture, recorded in log[cut:]:
        heir.sees(picture, recorded)
    heir.end()
    assert heir.events == whole.events
    assert heir.state == whole.state
    split = data.draw(st.integers(0, len(whole.events)))
    snapshot = folded(whole.events[:split])
    assert folded(whole.events[split:], snapshot) == whole.state


@given(logs(), st.data())
@_settings
def test_what_is_handed_out_again_is_decided_as_the_first_time(
    log: list[Given], data: st.DataObject
) -> None:
    """Pictures come again: to a zombie on an older fold, whose settlement is refused, and to an
    owner that throws its state away for that and folds the log anew."""
    owner = Camera()
    for picture, recorded in log:
        for known in data.draw(st.lists(st.integers(0, len(owner.events)), max_size=2)):
            zombie = Camera()
            zombie.state = folded(owner.events[:known])
            zombie.sees(picture, recorded)
        again = Camera()
        again.state = folded(owner.events)
        refused = again.sees(picture, recorded)
        assert owner.sees(picture, recorded) == refused
    owner.end()
    assert owner.events == run_of(log).events


@given(logs(), st.data())
@_settings
def test_ticks_of_the_clock_change_no_batch(log: list[Given], data: st.DataObject) -> None:
    """A tick may come whenever the reader has caught up: after one record, before the next."""
    ticked = Camera()
    for index, (picture, recorded) in enumerate(log):
        ticked.sees(picture, recorded)
        following = (
            log[index + 1][1] if index + 1 < len(log) else recorded + timedelta(seconds=300)
        )
        between = (following - recorded).total_seconds()
        for _ in range(data.draw(st.integers(0, 2))):
            ahead = data.draw(st.floats(0.0, between, allow_nan=False))
            ticked.clock(recorded + timedelta(seconds=ahead))
    ticked.end()
    assert ticked.events == run_of(log).events


@given(logs())
@_settings
def test_the_deadline_is_the_first_moment_that_closes(log: list[Given]) -> None:
    state = CameraBatches()
    camera = Camera()
    for picture, recorded in log:
        camera.sees(picture, recorded)
        state = camera.state
        deadline = next_deadline(state, POLICY)
        if deadline is not None:
            just_before = deadline - timedelta(microseconds=1)
            assert expire(state, POLICY, "porch", just_before) == ()
            (closed,) = expire(state, POLICY, "porch", deadline)
            assert isinstance(closed, BatchClosed)
    assert all(isinstance(e, PictureBatched) or e.TAG != "" for e in camera.events)
