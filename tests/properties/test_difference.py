"""Differences found side by side, a stretch at a time, are those found all at once."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import NOON

from domain.difference import compare, order_of, paired
from domain.whatif import Cover, EventOutcome, Evidence
from hsi.whatif.sorting import sort_lines


def event(camera: str, pictures: list[int], score: int) -> EventOutcome:
    """Return an event of pictures taken at these seconds, the first of them naming it."""
    names = tuple(f"{camera}-{number}" for number in pictures)
    return EventOutcome(
        event_id=f"evt-{names[0]}",
        camera_id=camera,
        started_at=NOON + timedelta(seconds=min(pictures)),
        ended_at=NOON + timedelta(seconds=max(pictures)),
        score=score,
        level="low",
        summary="",
        close_reason="idle",
        picture_ids=names,
        cover=Cover(
            picture_id=names[0], uri="", label="", score=1.0, x=0.0, y=0.0, width=1.0, height=1.0
        ),
        evidence=Evidence(),
    )


@st.composite
def sides(draw: st.DrawFn) -> list[EventOutcome]:
    """Return the events of two cameras: pictures in a row, some left out, cut into batches."""
    found = []
    for camera in ("a", "b"):
        batch: list[int] = []
        for number in range(draw(st.integers(0, 40))):
            if draw(st.booleans()):
                batch.append(number)
            if batch and draw(st.integers(0, 4)) == 0:
                found.append(event(camera, batch, draw(st.integers(1, 2))))
                batch = []
    return sorted(found, key=order_of)


@settings(max_examples=150)
@given(sides(), sides())
def test_without_a_bound_it_is_the_whole_comparison(
    before: list[EventOutcome], after: list[EventOutcome]
) -> None:
    changes = [c for pair in paired(before, after, stretch=10_000) if (c := pair.change())]
    assert sorted(changes, key=repr) == sorted(compare(before, after), key=repr)


@settings(max_examples=150)
@given(sides(), sides(), st.integers(1, 6))
def test_however_short_the_stretch_each_event_counts_once_and_ids_find_each_other(
    before: list[EventOutcome], after: list[EventOutcome], stretch: int
) -> None:
    pairs = list(paired(before, after, stretch=stretch))
    assert sorted((p.before for p in pairs if p.before), key=order_of) == before
    assert sorted((p.after for p in pairs if p.after), key=order_of) == after
    both = {p.before.event_id: p.after.event_id for p in pairs if p.before and p.after}
    for shared in {one.event_id for one in before} & {one.event_id for one in after}:
        assert both[shared] == shared
    for pair in pairs:
        if pair.before and pair.after and pair.before.event_id != pair.after.event_id:
            assert set(pair.before.picture_ids) & set(pair.after.picture_ids)


@pytest.mark.parametrize("run_bytes", [1, 50, 10_000])
def test_lines_are_sorted_on_disk_and_equal_ones_keep_their_order(
    tmp_path: Path, run_bytes: int
) -> None:
    lines = [b"%d %d" % (number * 7919 % 13, number) for number in range(200)]
    target = tmp_path / "sorted.jsonl"
    sort_lines(iter(lines), target, lambda line: line.split()[0], run_bytes=run_bytes)
    ordered = sorted(lines, key=lambda line: line.split()[0])
    assert target.read_bytes().splitlines() == ordered
    assert list(tmp_path.iterdir()) == [target]
    sort_lines(iter(()), target, lambda line: line)
    assert target.read_bytes() == b""
