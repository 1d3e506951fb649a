"""Boxes against labels: what counts as found, missed and wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Box
from domain.labelled import LabelledObject, LabelledPicture, Tally, Verdict, judge, overlap, tally


def box(label: str, x: float, width: float = 10, score: float = 0.9) -> Box:
    return Box(label=label, score=score, x=x, y=0, width=width, height=10)


def thing(x: float, *labels: str, width: float = 10) -> LabelledObject:
    return LabelledObject(labels or ("person",), x, 0, width, 10)


def shown(*objects: LabelledObject, ignored: tuple[LabelledObject, ...] = ()) -> LabelledPicture:
    return LabelledPicture("a.jpg", "0" * 64, objects, ignored)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (box("person", 0), thing(0), 1.0),
        (box("person", 5), thing(0), 1 / 3),
        (box("person", 10), thing(0), 0.0),
        (box("person", 90), thing(0), 0.0),
        (box("person", 0, 20), thing(0), 0.5),
    ],
)
def test_overlap_is_intersection_over_union(
    first: Box, second: LabelledObject, shared: float
) -> None:
    assert overlap(first, second) == pytest.approx(shared)


def test_half_is_enough_and_less_is_not() -> None:
    assert judge([box("person", 0, 20)], shown(thing(0))).found == (thing(0),)
    verdict = judge([box("person", 0, 20.1)], shown(thing(0)))
    assert (verdict.found, verdict.missed) == ((), (thing(0),))
    assert verdict.wrong == (box("person", 0, 20.1),)


def test_the_label_must_fit_and_either_of_two_does() -> None:
    van = thing(0, "car", "truck")
    assert judge([box("truck", 0)], shown(van)).found == (van,)
    assert judge([box("bus", 0)], shown(van)).missed == (van,)


def test_one_object_is_found_once_by_the_best_box() -> None:
    weak, strong = box("person", 1, score=0.5), box("person", 0, score=0.9)
    verdict = judge([weak, strong], shown(thing(0)))
    assert (verdict.found, verdict.wrong) == ((thing(0),), (weak,))


def test_what_is_ignored_is_neither_missed_nor_wrong_but_once() -> None:
    doubtful = shown(ignored=(thing(0),))
    assert judge([], doubtful) == Verdict((), (), ())
    assert judge([box("person", 1)], doubtful) == Verdict((), (), ())
    assert len(judge([box("person", 1), box("person", 0)], doubtful).wrong) == 1


def test_shares_and_what_they_are_of_nothing() -> None:
    assert (Tally(6, 2, 4).recall, Tally(6, 2, 4).precision) == (0.75, 0.6)
    assert (Tally(0, 0, 0).recall, Tally(0, 0, 0).precision) == (1, 1)
    verdicts = [
        judge([box("person", 0), box("dog", 50)], shown(thing(0), thing(20))),
        judge([box("cat", 0)], shown(thing(0, "cat"))),
    ]
    assert tally(verdicts) == Tally(2, 1, 1)
    assert tally(verdicts, "person") == Tally(1, 1, 0)
    assert tally(verdicts, "dog") == Tally(0, 0, 1)


@given(
    places=st.lists(st.integers(0, 60), max_size=8),
    seen=st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), max_size=8),
    doubtful=st.lists(st.integers(0, 60), max_size=3),
)
def test_every_object_and_every_box_is_counted_once(
    places: list[int], seen: list[tuple[int, float]], doubtful: list[int]
) -> None:
    picture = shown(*map(thing, places), ignored=tuple(map(thing, doubtful)))
    boxes = [box("person", x, score=score) for x, score in seen]
    verdict = judge(boxes, picture)
    assert len(verdict.found) + len(verdict.missed) == len(places)
    passed_over = len(boxes) - len(verdict.found) - len(verdict.wrong)
    assert 0 <= passed_over <= len(doubtful)
