"""Rows of numbers to boxes: overlap, floor, clipping, order."""

import numpy as np
import pytest

from domain.errors import PermanentError
from inference.boxes import MOST_BOXES, keep_best, to_boxes
from inference.ports import BOX_FLOOR


def test_a_box_that_overlaps_a_better_one_is_dropped_whatever_its_class() -> None:
    corners = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 10]], float)
    scores = np.array([0.5, 0.9, 0.3, 0.8])
    assert keep_best(corners, scores, 0.5).tolist() == [1, 2]


def test_a_chain_of_boxes_loses_only_those_that_overlap_a_kept_one() -> None:
    corners = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], float)
    assert keep_best(corners, np.array([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


def test_no_boxes_at_all() -> None:
    assert keep_best(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []
    assert to_boxes(np.empty(0, int), np.empty((0, 4)), np.empty(0), width=9, height=9) == ()


def test_boxes_are_clipped_sorted_and_named() -> None:
    labels = np.array([0, 16, 2])
    corners = np.array([[-5, -5, 50, 20], [10, 10, 20, 90], [99, 99, 120, 120]], np.float32)
    scores = np.array([0.5, 0.75, 1.0], np.float32)
    car, dog, person = to_boxes(labels, corners, scores, width=100, height=100)
    assert (car.label, dog.label, person.label) == ("car", "dog", "person")
    assert (person.x, person.y, person.width, person.height) == (0, 0, 50, 20)
    assert (dog.x, dog.y, dog.width, dog.height) == (10, 10, 10, 80)
    assert (car.x, car.width) == (99, 1)


@pytest.mark.parametrize(
    ("label", "corners", "score"),
    [
        pytest.param(0, [0, 0, 5, 5], BOX_FLOOR, id="at the floor"),
        pytest.param(80, [0, 0, 5, 5], 0.9, id="no such class"),
        pytest.param(-1, [0, 0, 5, 5], 0.9, id="negative class"),
        pytest.param(0, [12, 0, 15, 5], 0.9, id="beside the picture"),
        pytest.param(0, [5, 5, 5, 9], 0.9, id="no width"),
        pytest.param(0, [9, 0, 1, 9], 0.9, id="inside out"),
        pytest.param(0, [float("nan"), 0, 5, 5], BOX_FLOOR, id="no number, but no box either"),
    ],
)
def test_rows_that_are_no_box_are_dropped(label: int, corners: list[float], score: float) -> None:
    found = to_boxes(
        np.array([label]), np.array([corners]), np.array([score]), width=10, height=10
    )
    assert found == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_answer_is_refused_not_taken_for_an_empty_one(value: float) -> None:
    labels, corners = np.array([0, 0]), np.array([[0.0, 0, 5, 5], [1, 1, 4, 4]])
    with pytest.raises(PermanentError, match="1 of 2 scores that are not finite numbers"):
        to_boxes(labels, corners, np.array([0.9, value]), width=10, height=10)
    corners[1, 0] = value
    with pytest.raises(PermanentError, match="1 of 8 corners that are not finite numbers"):
        to_boxes(labels, corners, np.array([0.9, 0.8]), width=10, height=10)


def test_never_more_than_the_limit() -> None:
    count = 2 * MOST_BOXES
    corners = np.tile([0.0, 0.0, 5.0, 5.0], (count, 1))
    scores = np.linspace(0.1, 0.9, count)
    found = to_boxes(np.zeros(count, int), corners, scores, width=9, height=9)
    assert len(found) == MOST_BOXES
    assert found[0].score == pytest.approx(0.9)
