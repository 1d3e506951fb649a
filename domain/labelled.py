"""Labelled pictures: what a person sees in one, and how a detector's boxes compare with that.

An object counts as found when a box with one of its labels covers it: both share at least OVERLAP
of what they cover together. Each box finds one object at most, better scores choose first. A box
that fits no object is wrong, unless it fits an ignored one: something too small, too hidden or too
doubtful to ask for, whose finding is no mistake either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from domain.events import Box

OVERLAP = 0.5
"""Intersection over union from which box and object are the same, as COCO's AP50 has it."""

_Length = Annotated[float, msgspec.Meta(gt=0)]


class LabelledObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One object in a picture, in pixels of the upright picture."""

    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """More than one where people call it either: a van is a car or a truck."""
    x: float
    y: float
    width: _Length
    height: _Length

    @property
    def name(self) -> str:
        """Return the labels as one text."""
        return " or ".join(self.labels)


class LabelledPicture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One picture and what is in it."""

    file: str
    """Path from the folder of the labels."""
    sha256: str
    objects: tuple[LabelledObject, ...] = ()
    ignored: tuple[LabelledObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a detector did on one picture."""

    found: tuple[LabelledObject, ...]
    missed: tuple[LabelledObject, ...]
    wrong: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Objects over several pictures."""

    found: int
    missed: int
    wrong: int

    @property
    def recall(self) -> float:
        """Return the share of the objects that were found; 1 where there were none."""
        labelled = self.found + self.missed
        return self.found / labelled if labelled else 1.0

    @property
    def precision(self) -> float:
        """Return the share of the boxes that are right; 1 where there were none."""
        boxes = self.found + self.wrong
        return self.found / boxes if boxes else 1.0


def judge(boxes: Iterable[Box], picture: LabelledPicture) -> Verdict:
    """Compare the boxes that count with what is in the picture."""
    open_objects = list(picture.objects)
    open_ignored = list(picture.ignored)
    found: list[LabelledObject] = []
    wrong: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if (fitting := _best(box, open_objects)) is not None:
            open_objects.remove(fitting)
            found.append(fitting)
        elif (fitting := _best(box, open_ignored)) is not None:
            open_ignored.remove(fitting)
        else:
            wrong.append(box)
    return Verdict(tuple(found), tuple(open_objects), tuple(wrong))


def tally(verdicts: Sequence[Verdict], name: str | None = None) -> Tally:
    """Add up; with `name` only the objects of that name and the wrong boxes of that label."""

    def count(objects: Iterable[LabelledObject]) -> int:
        return sum(name in (None, thing.name) for thing in objects)

    return Tally(
        found=sum(count(verdict.found) for verdict in verdicts),
        missed=sum(count(verdict.missed) for verdict in verdicts),
        wrong=sum(name in (None, box.label) for verdict in verdicts for box in verdict.wrong),
    )


def overlap(box: Box, thing: LabelledObject) -> float:
    """Return intersection over union."""
    right = min(box.x + box.width, thing.x + thing.width)
    bottom = min(box.y + box.height, thing.y + thing.height)
    shared = max(0.0, right - max(box.x, thing.x)) * max(0.0, bottom - max(box.y, thing.y))
    return shared / (box.width * box.height + thing.width * thing.height - shared)


def _best(box: Box, objects: Sequence[LabelledObject]) -> LabelledObject | None:
    fitting = [thing for thing in objects if box.label in thing.labels]
    best = max(fitting, key=lambda thing: overlap(box, thing), default=None)
    return best if best is not None and overlap(box, best) >= OVERLAP else None
