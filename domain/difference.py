"""What differs between the events that were and the events that would have been. Pure.

Events are the same one when their ids are; of the others those that share the most pictures are
taken for the same one (a changed threshold can take away the first picture, hence the id).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from domain.whatif import EventOutcome

Kind = Literal["gained", "lost", "level", "score", "details"]

KINDS: Final[tuple[Kind, ...]] = ("gained", "lost", "level", "score", "details")
"""By falling weight. `details`: same score and level, but other bytes (pictures, reason, text)."""


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


def compare(before: Sequence[EventOutcome], after: Sequence[EventOutcome]) -> list[Change]:
    """Return every difference, by time; nothing when both sides are the same byte for byte."""
    left = {outcome.event_id: outcome for outcome in before}
    right = {outcome.event_id: outcome for outcome in after}
    pairs = [(left.pop(key), right.pop(key)) for key in list(left) if key in right]
    pairs += _by_pictures(left, right)
    changes = [change for pair in pairs if (change := _changed(*pair)) is not None]
    changes += [Change(kind="lost", before=outcome) for outcome in left.values()]
    changes += [Change(kind="gained", after=outcome) for outcome in right.values()]
    return sorted(changes, key=lambda c: (c.started_at, c.shown.camera_id, c.shown.event_id))


def _changed(before: EventOutcome, after: EventOutcome) -> Change | None:
    if before == after:
        return None
    kind: Kind = "details"
    if before.level != after.level:
        kind = "level"
    elif before.score != after.score:
        kind = "score"
    return Change(kind=kind, before=before, after=after)


def _by_pictures(
    left: dict[str, EventOutcome], right: dict[str, EventOutcome]
) -> list[tuple[EventOutcome, EventOutcome]]:
    """Take out of both sides the pairs that share pictures, those that share most first."""
    shared = _shared(left.values(), right.values())
    order = sorted(
        shared.items(),
        key=lambda item: (-item[1], left[item[0][0]].started_at, right[item[0][1]].started_at),
    )
    pairs = []
    for (lost, gained), _ in order:
        if lost in left and gained in right:
            pairs.append((left.pop(lost), right.pop(gained)))
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
