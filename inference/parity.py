"""Do two models see the same? Detections compared as sets, one picture at a time; numpy only.

As sets, because the order means nothing: scores that differ in the seventh digit change places.
Rows below the floor are left out: which of many near-equal rows is the 300th is chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model answered for one picture: its rows as they came."""

    labels: Array
    boxes: Array
    scores: Array


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two detections may lie apart and still be the same one."""

    box_px: float
    """Pixels, each of the four sides, in a picture whose longer side has 1,920."""
    score: float
    floor: float
    """Rows of the reference below this score are not compared."""


EXACT = Tolerance(box_px=0.01, score=0.0001, floor=0.05)
"""The same network in the same precision: what `hsi models export` must reach."""
HALF_PRECISION = Tolerance(box_px=4.0, score=0.03, floor=0.3)
"""A plan in FP16 beside the graph that it was built from."""


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How two models compared over some pictures."""

    pictures: int
    compared: int
    """Detections of the reference above the floor."""
    missing: int
    """Of these, those that the candidate does not have."""
    surplus: int
    """Detections of the candidate, clearly above the floor, that the reference does not have."""
    worst_box_px: float
    """Over what was matched, sides in pixels at 1,920."""
    worst_score: float

    @property
    def holds(self) -> bool:
        """Tell whether the two see the same, and saw anything at all to compare."""
        return self.compared > 0 and self.missing == 0 and self.surplus == 0


def compare(
    reference: Sequence[Seen],
    candidate: Sequence[Seen],
    longer_sides: Sequence[int],
    tolerance: Tolerance,
) -> Parity:
    """Compare what two models saw in the same pictures, given each picture's longer side."""
    results = [
        _compare_one(expected, seen, 1920 / side, tolerance)
        for expected, seen, side in zip(reference, candidate, longer_sides, strict=True)
    ]
    return Parity(
        pictures=len(results),
        compared=sum(result.compared for result in results),
        missing=sum(result.missing for result in results),
        surplus=sum(result.surplus for result in results),
        worst_box_px=max((result.worst_box_px for result in results), default=0.0),
        worst_score=max((result.worst_score for result in results), default=0.0),
    )


def _compare_one(reference: Seen, candidate: Seen, scale: float, allowed: Tolerance) -> Parity:
    floor = max(allowed.floor, *(_cut(seen, allowed.score) for seen in (reference, candidate)))
    expected = np.flatnonzero(reference.scores >= floor)
    # A row just under the floor in one model may stand just over it in the other.
    possible = np.flatnonzero(candidate.scores >= floor - allowed.score)
    same = reference.labels[expected, None] == candidate.labels[None, possible]
    box = _apart(reference.boxes[expected], candidate.boxes[possible]) * scale
    score = np.abs(reference.scores[expected, None] - candidate.scores[None, possible])
    matches = same & (box <= allowed.box_px) & (score <= allowed.score)
    rows, columns = _pair(matches, box)
    left = np.setdiff1d(possible, possible[columns])
    return Parity(
        pictures=1,
        compared=len(expected),
        missing=len(expected) - len(rows),
        surplus=int(np.count_nonzero(candidate.scores[left] >= floor + allowed.score)),
        worst_box_px=float(box[rows, columns].max(initial=0)),
        worst_score=float(score[rows, columns].max(initial=0)),
    )


def _cut(seen: Seen, margin: float) -> float:
    """Return the score below which rows may have been cut off by the limit of 300."""
    return float(seen.scores.min(initial=1)) + margin if len(seen.scores) >= 300 else 0.0


def _apart(first: Array, second: Array) -> Array:
    """Return the largest distance of two sides, for each pair of boxes."""
    return np.asarray(
        np.abs(first[:, None].astype(np.float64) - second[None].astype(np.float64)).max(axis=2)
    )


def _pair(matches: Array, box: Array) -> tuple[Array, Array]:
    """Return rows and columns of a one-to-one pairing, the nearest first."""
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    pairs = []
    candidates = np.argwhere(matches)
    for row, column in candidates[np.argsort(box[matches], kind="stable")].tolist():
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column))
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]
