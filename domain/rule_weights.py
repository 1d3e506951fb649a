"""What the rules count with: every point and limit by name, with its range and what it means."""

from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final, NamedTuple, Self

import msgspec
from msgspec import Meta

RULES_VERSION: Final = "rules-1"
"""Changes whenever a rule or a default below does; stored with every assessment."""

_Points = Annotated[int, Meta(ge=-100, le=100)]
_Floor = Annotated[int, Meta(ge=0, le=100)]
_Seconds = Annotated[int, Meta(ge=0, le=86_400)]
_Count = Annotated[int, Meta(ge=1, le=1000)]


class ByKind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points for each kind of object that a batch can be about."""

    person: _Points
    vehicle: _Points
    animal: _Points
    other: _Points


class ByPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points for each part of the day."""

    night: _Points
    dawn: _Points
    day: _Points
    evening: _Points


_Limits = tuple[_Seconds, _Seconds, _Seconds, _Seconds]
_Steps = tuple[_Points, _Points, _Points, _Points, _Points]
_Group = tuple[_Points, _Points, _Points, _Points]


def _says(text: str) -> Meta:
    return Meta(description=text)


class RuleWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Points and limits of the rules; the defaults are those that the product assesses with."""

    object: Annotated[ByKind, _says("what the batch is about")] = ByKind(
        person=12, vehicle=5, animal=3, other=2
    )
    time_person: Annotated[ByPart, _says("a person, by the part of the day")] = ByPart(
        night=22, dawn=8, day=0, evening=5
    )
    time_vehicle: Annotated[ByPart, _says("a vehicle, by the part of the day")] = ByPart(
        night=12, dawn=4, day=0, evening=3
    )
    people: Annotated[_Group, _says("1, 2, 3, 4 or more people at once, not at night")] = (
        0,
        4,
        8,
        12,
    )
    people_night: Annotated[_Group, _says("the same at night")] = (0, 10, 15, 18)
    dwell_seconds: Annotated[_Limits, _says("seconds in view at which the next step begins")] = (
        15,
        30,
        60,
        180,
    )
    dwell: Annotated[_Steps, _says("a person who stays, step by step, not at night")] = (
        0,
        5,
        14,
        30,
        36,
    )
    # Less than by day: to be there at all counts already.
    dwell_night: Annotated[_Steps, _says("the same at night")] = (0, 5, 10, 18, 22)
    # Cars stand where they are parked; only at night is one that stays worth a thought.
    dwell_vehicle_night: Annotated[
        _Points, _says("a vehicle that stays at night, from the second step on")
    ] = 8
    entry_person: Annotated[
        ByPart, _says("a person at a way into the house, by the part of the day")
    ] = ByPart(night=28, dawn=8, day=5, evening=5)
    entry_vehicle_night: Annotated[_Points, _says("a vehicle at such a way at night")] = 5
    beside: Annotated[_Points, _says("a vehicle beside a person, not at night")] = 2
    beside_night: Annotated[_Points, _says("the same at night")] = 4
    knife: Annotated[_Points, _says("a knife together with a person")] = 30
    bear: Annotated[_Points, _says("a bear, and no person")] = 30
    usual_days: Annotated[
        _Count, _says("days a camera must be known before anything is usual there")
    ] = 3
    usual_times: Annotated[_Count, _says("times at this hour, at least, for `usual`")] = 3
    usual_person: Annotated[
        ByPart, _says("a usual person; half of the points for staying are taken back too")
    ] = ByPart(night=-20, dawn=-15, day=-7, evening=-12)
    usual_vehicle: Annotated[_Points, _says("a usual vehicle, not at night")] = -3
    usual_vehicle_night: Annotated[_Points, _says("the same at night")] = -10
    new: Annotated[ByPart, _says("a person or vehicle that was never there at this hour")] = (
        ByPart(night=10, dawn=8, day=5, evening=6)
    )
    unsure: Annotated[_Points, _says("seen in one picture only, and not clearly")] = -2
    unsure_below: Annotated[float, Meta(ge=0, le=1), _says("best score that is not clear")] = 0.6
    insistent_people: Annotated[_Count, _says("people at once who count as insistent")] = 2
    insistent_seconds: Annotated[_Seconds, _says("seconds in view that count as insistent")] = 30
    lingering_seconds: Annotated[_Seconds, _says("seconds in view that count as lingering")] = 60
    floor_insistent: Annotated[
        _Floor, _says("lowest score: insistent at a way into the house at night, not usual")
    ] = 70
    floor_entry: Annotated[
        _Floor, _says("lowest score: a person at such a way at night, not usual")
    ] = 60
    floor_entry_usual: Annotated[_Floor, _says("lowest score: the same, even if usual")] = 30
    floor_knife: Annotated[_Floor, _says("lowest score: a knife together with a person")] = 45
    floor_night: Annotated[_Floor, _says("lowest score: a person at night, not usual")] = 30
    floor_lingering: Annotated[_Floor, _says("lowest score: a lingering person, not usual")] = 30

    def __post_init__(self) -> None:
        limits = self.dwell_seconds
        if any(before >= after for before, after in pairwise(limits)):
            raise ValueError(f"dwell_seconds {list(limits)} must rise strictly")


class Rules(NamedTuple):
    """Weights, and the version that assessments made with them say."""

    weights: RuleWeights
    version: str

    @classmethod
    def of(cls, weights: RuleWeights) -> Self:
        """Return the weights with their version: `rules-1`, and a checksum where they differ."""
        changed = changed_weights(weights)
        if not changed:
            return cls(weights, RULES_VERSION)
        checksum = sha256(msgspec.json.encode(changed, order="sorted")).hexdigest()
        return cls(weights, f"{RULES_VERSION}+{checksum[:8]}")


def changed_weights(weights: RuleWeights) -> dict[str, object]:
    """Return the weights that are not the default, by name."""
    names = RuleWeights.__struct_fields__
    pairs = ((name, getattr(weights, name)) for name in names)
    return {name: value for name, value in pairs if value != getattr(RULES.weights, name)}


RULES: Final = Rules(RuleWeights(), RULES_VERSION)
"""What the product assesses with; only a what-if run takes others."""
