"""What differs between the events that were and the events that would have been. Pure.

Events are the same one when their ids are; of the others those that share the most pictures are
taken for the same one (a changed threshold can take away the first picture, hence the id).
Both sides are gone through side by side, so that no more than one stretch of them is in memory.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec

from domain.whatif import EventOutcome

Kind = Literal["gained", "lost", "level", "score", "details"]

KINDS: Final[tuple[Kind, ...]] = ("gained", "lost", "level", "score", "details")
"""By falling weight. `details`: same score and level, but other bytes (pictures, reason, text)."""


STRETCH: Final = 500
"""Events of both sides that are compared at once where a camera never rests: some 2 MiB."""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that is not the same on both sides."""

    kind: Kind
    before: EventOutcome | None = None
    """What the log holds; None when the event is gained."""
    after: EventOutcome | None = None
    """What the changed settings make of it; None when the event is lost."""

    @property
    def shown(self) -> EventOutcome:
        """Return the side to show a picture of: what would be, else what was."""
        if self.after is not None:
            return self.after
        if self.before is None:
            raise ValueError(f"a {self.kind} event without a side")
        return self.before

    @property
    def started_at(self) -> datetime:
        """Return when the event began."""
        return self.shown.started_at


class Pair(NamedTuple):
    """An event on both sides, or on one of them only."""

    before: EventOutcome | None
    after: EventOutcome | None

    def change(self) -> Change | None:
        """Return how the sides differ; None when they are the same byte for byte."""
        if self.before is None:
            return Change(kind="gained", after=self.after)
        if self.after is None:
            return Change(kind="lost", before=self.before)
        return _changed(self.before, self.after)

    def reaches(self, camera_id: str, moment: datetime) -> bool:
        """Say whether an event of this camera that begins then may share pictures with it."""
        sides = [side for side in self if side is not None]
        return any(side.camera_id == camera_id and side.ended_at >= moment for side in sides)


def order_of(outcome: EventOutcome) -> tuple[str, datetime, str]:
    """Return the order in which `paired` wants both sides: cameras one by one, each by time."""
    return outcome.camera_id, outcome.started_at, outcome.event_id


def compare(before: Sequence[EventOutcome], after: Sequence[EventOutcome]) -> list[Change]:
    """Return every difference, by time; nothing when both sides are the same byte for byte."""
    changes = [change for pair in _pairs(before, after) if (change := pair.change()) is not None]
    return sorted(changes, key=lambda c: (c.started_at, c.shown.camera_id, c.shown.event_id))


def paired(
    before: Iterable[EventOutcome], after: Iterable[EventOutcome], *, stretch: int = STRETCH
) -> Iterator[Pair]:
    """Pair two sides that come in the order of `order_of`, at most about a stretch in memory.

    Events that share a picture overlap in time, so a gap of the camera ends a stretch. Where
    there is none for so long, what ended before the next event is paired with what is known by
    then; an event that may go on is taken into the next stretch, together with its partner.
    """
    sides: tuple[list[EventOutcome], list[EventOutcome]] = ([], [])
    reach: tuple[str, datetime] | None = None
    for one, side in _side_by_side(before, after):
        if reach is not None and not (one.camera_id == reach[0] and one.started_at <= reach[1]):
            yield from _pairs(*sides)
            sides, reach = ([], []), None
        elif len(sides[0]) + len(sides[1]) >= stretch:
            kept: list[Pair] = []
            for pair in _pairs(*sides):
                if pair.reaches(one.camera_id, one.started_at):
                    kept.append(pair)
                else:
                    yield pair
            sides = (
                [pair.before for pair in kept if pair.before is not None],
                [pair.after for pair in kept if pair.after is not None],
            )
        sides[side].append(one)
        reach = one.camera_id, max(one.ended_at, reach[1] if reach else one.ended_at)
    yield from _pairs(*sides)


def _side_by_side(
    before: Iterable[EventOutcome], after: Iterable[EventOutcome]
) -> Iterator[tuple[EventOutcome, int]]:
    tagged = (((one, 0) for one in before), ((one, 1) for one in after))
    return heapq.merge(*tagged, key=lambda item: order_of(item[0]))


def _pairs(before: Sequence[EventOutcome], after: Sequence[EventOutcome]) -> list[Pair]:
    left = {outcome.event_id: outcome for outcome in before}
    right = {outcome.event_id: outcome for outcome in after}
    pairs = [Pair(left.pop(key), right.pop(key)) for key in list(left) if key in right]
    pairs += _by_pictures(left, right)
    pairs += [Pair(outcome, None) for outcome in left.values()]
    pairs += [Pair(None, outcome) for outcome in right.values()]
    return pairs


def _changed(before: EventOutcome, after: EventOutcome) -> Change | None:
    if before == after:
        return None
    kind: Kind = "details"
    if before.level != after.level:
        kind = "level"
    elif before.score != after.score:
        kind = "score"
    return Change(kind=kind, before=before, after=after)


def _by_pictures(left: dict[str, EventOutcome], right: dict[str, EventOutcome]) -> list[Pair]:
    """Take out of both sides the pairs that share pictures, those that share most first."""
    shared = _shared(left.values(), right.values())
    order = sorted(
        shared.items(),
        key=lambda item: (-item[1], left[item[0][0]].started_at, right[item[0][1]].started_at),
    )
    pairs = []
    for (lost, gained), _ in order:
        if lost in left and gained in right:
            pairs.append(Pair(left.pop(lost), right.pop(gained)))
    return pairs


def _shared(
    before: Iterable[EventOutcome], after: Iterable[EventOutcome]
) -> dict[tuple[str, str], int]:
    """Count the pictures that any two events share."""
    owner = {picture: one.event_id for one in before for picture in one.picture_ids}
    counts: dict[tuple[str, str], int] = {}
    for other in after:
        for picture in other.picture_ids:
            if (lost := owner.get(picture)) is not None:
                pair = (lost, other.event_id)
                counts[pair] = counts.get(pair, 0) + 1
    return counts
