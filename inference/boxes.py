"""From a model's rows of numbers to boxes: floor, overlap, clipping, names; numpy only, pure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import PermanentError
from domain.events import Box
from inference.labels import COCO_LABELS
from inference.ports import BOX_FLOOR

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

MOST_BOXES = 300
"""No detector of ours answers more for one picture."""


def keep_best(corners: Floats, scores: Floats, overlap: float) -> Ints:
    """Return the rows that survive, best first: a box that overlaps a better one is dropped.

    Overlap is intersection over union, whatever the classes are: one thing in front of a camera
    that two classes claim is one thing.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = corners[order].T
    areas = (right - left) * (bottom - top)
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for row in range(len(order)):
        if not alive[row]:
            continue
        kept.append(row)
        width = np.minimum(right[row], right) - np.maximum(left[row], left)
        height = np.minimum(bottom[row], bottom) - np.maximum(top[row], top)
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        union = areas[row] + areas - shared
        alive &= shared <= overlap * union
    return np.asarray(order[kept])


def to_boxes(
    labels: Ints, corners: Floats, scores: Floats, *, width: int, height: int
) -> tuple[Box, ...]:
    """Return the rows above BOX_FLOOR as boxes clipped to the picture, by falling score.

    `corners` are left, top, right, bottom in pixels of the picture of `width` x `height`. Rows
    that name no class or lie outside the picture are dropped. Raises PermanentError when a score,
    or a corner of a row that counts, is no number: a broken answer is not an empty one.
    """
    _refuse_no_numbers(scores, "scores")
    rows = np.flatnonzero((scores > BOX_FLOOR) & (labels >= 0) & (labels < len(COCO_LABELS)))
    rows = rows[np.argsort(-scores[rows], kind="stable")][:MOST_BOXES]
    _refuse_no_numbers(corners[rows], "corners")
    limits = np.array([width, height, width, height], dtype=np.float64)
    inside = np.clip(corners[rows].astype(np.float64), 0, limits)
    boxes = []
    for row, (left, top, right, bottom) in zip(rows, inside.tolist(), strict=True):
        if right <= left or bottom <= top:
            continue
        box = Box(
            label=COCO_LABELS[int(labels[row])],
            score=min(round(float(scores[row]), 5), 1.0),
            x=round(left, 2),
            y=round(top, 2),
            width=round(right - left, 2),
            height=round(bottom - top, 2),
        )
        boxes.append(box)
    return tuple(boxes)


def _refuse_no_numbers(values: Floats, what: str) -> None:
    """Raise PermanentError unless every value is a finite number."""
    if wrong := int(np.count_nonzero(~np.isfinite(values))):
        raise PermanentError(
            f"the detector answered {wrong} of {values.size} {what} that are not finite numbers: "
            "check its model file and precision (FP16 can overflow), then redrive the picture"
        )
