"""Detections compared as sets: order and near ties mean nothing, everything else counts."""

import numpy as np
import pytest

from inference.parity import EXACT, Parity, Seen, Tolerance, compare

LOOSE = Tolerance(box_px=4.0, score=0.03, floor=0.3)


def seen(*rows: tuple[int, float, float]) -> Seen:
    """Return detections of (label, left side, score), boxes 100 wide and high."""
    labels, lefts, scores = np.array(rows, np.float64).reshape(-1, 3).T
    boxes = np.stack([lefts, lefts * 0, lefts + 100, lefts * 0 + 100], axis=1)
    return Seen(labels.astype(np.int64), boxes.astype(np.float32), scores.astype(np.float32))


def result(reference: Seen, candidate: Seen, allowed: Tolerance = LOOSE) -> Parity:
    return compare([reference], [candidate], [1920], allowed)


def test_order_means_nothing() -> None:
    first, second = (0, 10.0, 0.9), (2, 500.0, 0.9)
    parity = result(seen(first, second), seen(second, first), EXACT)
    assert parity.holds
    assert (parity.compared, parity.worst_box_px) == (2, 0.0)


@pytest.mark.parametrize(
    ("candidate", "missing", "surplus"),
    [
        ((1, 10.0, 0.9), 1, 1),
        ((0, 15.0, 0.9), 1, 1),
        ((0, 10.0, 0.8), 1, 1),
        ((0, 13.9, 0.88), 0, 0),
    ],
    ids=["another label", "too far", "another score", "near enough"],
)
def test_label_place_and_score_count(
    candidate: tuple[int, float, float], missing: int, surplus: int
) -> None:
    parity = result(seen((0, 10.0, 0.9)), seen(candidate))
    assert (parity.missing, parity.surplus) == (missing, surplus)
    assert parity.holds is (missing == 0)


def test_one_detection_cannot_stand_for_two() -> None:
    twice = seen((0, 10.0, 0.9), (0, 11.0, 0.9))
    assert result(twice, seen((0, 10.0, 0.9))).missing == 1
    assert result(seen((0, 10.0, 0.9)), twice).surplus == 1


def test_a_threshold_is_no_cliff() -> None:
    assert result(
        seen((0, 10.0, 0.301), (1, 0.0, 0.9)), seen((0, 10.0, 0.299), (1, 0.0, 0.9))
    ).holds
    assert result(
        seen((0, 10.0, 0.299), (1, 0.0, 0.9)), seen((0, 10.0, 0.301), (1, 0.0, 0.9))
    ).holds
    assert not result(seen((1, 0.0, 0.9)), seen((0, 10.0, 0.5), (1, 0.0, 0.9))).holds


def test_sides_are_measured_as_if_the_picture_had_1920_pixels() -> None:
    pair = [seen((0, 10.0, 0.9))], [seen((0, 12.0, 0.9))]
    assert compare(*pair, [1920], LOOSE).worst_box_px == pytest.approx(2.0)
    assert compare(*pair, [640], LOOSE).missing == 1


def test_which_row_is_the_three_hundredth_is_chance() -> None:
    common = [(0, float(10 * row), 0.9 - row * 0.001) for row in range(299)]
    expected = seen(*common, (1, 0.0, 0.5999))
    assert result(expected, seen(*common, (2, 0.0, 0.6001)), EXACT).holds


def test_nothing_to_compare_is_no_parity() -> None:
    assert not result(seen(), seen()).holds
    assert not result(seen((0, 1.0, 0.1)), seen((0, 1.0, 0.1))).holds
