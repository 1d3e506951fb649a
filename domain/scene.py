"""What a batch shows, reduced to the few facts that the rules and the language model are told."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from domain.events import BatchClosed, BatchEscalated, BatchFacts, BatchMember, ObjectFact

Kind = Literal["person", "vehicle", "animal", "other"]
PartOfDay = Literal["night", "dawn", "day", "evening"]

KINDS: Final[tuple[Kind, ...]] = ("person", "vehicle", "animal", "other")
"""By falling weight: the first kind that a batch shows is its main kind."""
PARTS_OF_DAY: Final[tuple[PartOfDay, ...]] = ("night", "dawn", "day", "evening")

_KIND_OF_LABEL: Final[dict[str, Kind]] = {
    "person": "person",
    **dict.fromkeys(("car", "motorcycle", "bus", "truck"), "vehicle"),
    **dict.fromkeys(("bird", "cat", "dog", "horse", "sheep", "cow"), "animal"),
    **dict.fromkeys(("elephant", "bear", "zebra", "giraffe"), "animal"),
}
_PART_ENDS: Final[tuple[tuple[int, PartOfDay], ...]] = (
    (5, "night"),
    (7, "dawn"),
    (19, "day"),
    (23, "evening"),
)
_WEEKDAYS: Final = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)


def kind_of(label: str) -> Kind:
    """Return what the rules take an object of this label for."""
    return _KIND_OF_LABEL.get(label.casefold(), "other")


def main_kind(labels: Iterable[str]) -> Kind | None:
    """Return the weightiest kind among `labels`; None when there are none."""
    seen = {kind_of(label) for label in labels}
    return next((kind for kind in KINDS if kind in seen), None)


def part_of_day(local: datetime) -> PartOfDay:
    """Return the part of the day: night from 23, dawn from 5, day from 7, evening from 19."""
    return next((part for end, part in _PART_ENDS if local.hour < end), "night")


def facts_of(batch: BatchEscalated | BatchClosed, timezone: ZoneInfo) -> BatchFacts:
    """Return all that may be known about a batch; the same batch always gives the same facts."""
    local = batch.started_at.astimezone(timezone)
    return BatchFacts(
        objects=_objects(batch.members),
        picture_count=len(batch.members),
        dwell_seconds=_dwell_seconds(batch.members),
        local_time=f"{local:%Y-%m-%d %H:%M} {_WEEKDAYS[local.weekday()]}",
        part_of_day=part_of_day(local),
        baseline=batch.baseline,
    )


def _objects(members: tuple[BatchMember, ...]) -> tuple[ObjectFact, ...]:
    labels = {box.label for member in members for box in member.detections}
    facts = [_object_fact(label, members) for label in labels]
    facts.sort(key=lambda fact: (KINDS.index(kind_of(fact.label)), -fact.most_at_once, fact.label))
    return tuple(facts)


def _object_fact(label: str, members: tuple[BatchMember, ...]) -> ObjectFact:
    scores = [[box.score for box in member.detections if box.label == label] for member in members]
    return ObjectFact(
        label=label,
        most_at_once=max(len(found) for found in scores),
        pictures=sum(1 for found in scores if found),
        best_score=max(score for found in scores for score in found),
    )


def _dwell_seconds(members: tuple[BatchMember, ...]) -> float:
    main = main_kind(box.label for member in members for box in member.detections)
    moments = [
        member.captured_at
        for member in members
        if any(kind_of(box.label) == main for box in member.detections)
    ]
    if not moments:
        return 0.0
    return (max(moments) - min(moments)).total_seconds()
