"""The deterministic rules: from the facts of a batch to signals, a score and a floor.

Points add up to the score, so that a person can follow it with a pencil. They are set so that a
usual resident ends at 5 to 15, a delivery at 15 to 25, someone lingering at 45 to 60, and someone
at a way into the house at night at 60 or more. What still pictures cannot show (intent, faces, a
forced door) is not claimed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from domain.events import BatchFacts, Signal
from domain.names import clean_label, counted
from domain.scene import Kind, kind_of, main_kind

RULES_VERSION: Final = "rules-1"
"""Changes whenever a rule, a point or a limit below does; stored with every assessment."""

BASELINE_MIN_DAYS: Final = 3
"""Days a camera must be known before what is usual there says anything."""
USUAL_MIN_TIMES: Final = 3
"""Earlier batches of this kind at this hour, at least, before it is called usual."""
UNSURE_BELOW: Final = 0.6
"""A kind seen in one picture only, with a best score below this, may be a mistake."""

_WHEN: Final = {
    "night": "at night",
    "dawn": "at dawn",
    "day": "by day",
    "evening": "in the evening",
}
_BY_PART = dict[str, int]
_PERSON_PART: Final[_BY_PART] = {"night": 22, "dawn": 8, "day": 0, "evening": 5}
_PERSON_ENTRY: Final[_BY_PART] = {"night": 28, "dawn": 8, "day": 5, "evening": 5}
_VEHICLE_PART: Final[_BY_PART] = {"night": 12, "dawn": 4, "day": 0, "evening": 3}
_USUAL: Final[_BY_PART] = {"night": -20, "dawn": -15, "day": -7, "evening": -12}
_NEW: Final[_BY_PART] = {"night": 10, "dawn": 8, "day": 5, "evening": 6}
_KIND_POINTS: Final[dict[Kind, int]] = {"person": 12, "vehicle": 5, "animal": 3, "other": 2}
_DWELL_LIMITS: Final = (15, 30, 60, 180)
_DWELL_POINTS: Final = (0, 5, 14, 30, 36)
_DWELL_POINTS_NIGHT: Final = (0, 5, 10, 18, 22)
"""Less than by day: to be there at all counts already."""
_PEOPLE_POINTS: Final = (0, 0, 4, 8, 12)
_PEOPLE_POINTS_NIGHT: Final = (0, 0, 10, 15, 18)

Habit = Literal["unknown", "usual", "rare", "new"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say about a batch."""

    score: int
    floor: int
    floor_why: str
    """Why the score cannot be lowered below the floor; empty when the floor is 0."""
    signals: tuple[Signal, ...]
    """Their points add up to the score."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """The facts in the form the rules ask for."""

    facts: BatchFacts
    entry_point: bool
    kind: Kind
    labels: frozenset[str]
    people: int
    habit: Habit

    @property
    def part(self) -> str:
        return self.facts.part_of_day

    @property
    def night(self) -> bool:
        return self.part == "night"

    @property
    def person(self) -> bool:
        return self.kind == "person"

    @property
    def dwell_points(self) -> int:
        seconds = self.facts.dwell_seconds
        step = sum(1 for limit in _DWELL_LIMITS if seconds >= limit)
        if self.person:
            return (_DWELL_POINTS_NIGHT if self.night else _DWELL_POINTS)[step]
        # Cars stand where they are parked; only at night is one that stays worth a thought.
        return 8 if self.kind == "vehicle" and self.night and step >= 2 else 0


def habit_of(facts: BatchFacts) -> Habit:
    """Return how usual this kind of object is for this camera at this hour."""
    baseline = facts.baseline
    if baseline.days_observed < BASELINE_MIN_DAYS:
        return "unknown"
    if baseline.same_hour <= 0:
        return "new"
    often = baseline.same_hour >= USUAL_MIN_TIMES
    every_other_day = 2 * baseline.same_hour >= baseline.days_observed
    return "usual" if often and every_other_day else "rare"


def judge(facts: BatchFacts, *, entry_point: bool) -> Verdict:
    """Return score, floor and signals; the same facts always give the same verdict."""
    kind = main_kind(fact.label for fact in facts.objects)
    if kind is None:
        nothing = Signal(
            name="object", value="nothing", points=0, why="Nothing was recognised in the pictures."
        )
        return Verdict(score=0, floor=0, floor_why="", signals=(nothing,))
    scene = _Scene(
        facts=facts,
        entry_point=entry_point,
        kind=kind,
        labels=frozenset(fact.label.casefold() for fact in facts.objects),
        people=max(
            (f.most_at_once for f in facts.objects if kind_of(f.label) == "person"), default=0
        ),
        habit=habit_of(facts),
    )
    signals = [signal for rule in _RULES if (signal := rule(scene)) is not None]
    floor, floor_why = _floor(scene)
    signals += _settled(sum(signal.points for signal in signals), floor, floor_why)
    score = sum(signal.points for signal in signals)
    return Verdict(score=score, floor=floor, floor_why=floor_why, signals=tuple(signals))


def _settled(total: int, floor: int, floor_why: str) -> list[Signal]:
    """Return the signal that brings `total` up to the floor or onto the scale, if one must."""
    if total < floor:
        return [Signal(name="floor", value=str(floor), points=floor - total, why=floor_why)]
    if total > 100:
        why = "The scale ends at 100."
        return [Signal(name="limit", value="100", points=100 - total, why=why)]
    return []


def _object(scene: _Scene) -> Signal:
    seen = [f for f in scene.facts.objects if kind_of(f.label) == scene.kind]
    value = ", ".join(counted(fact.label, fact.most_at_once) for fact in seen[:4])
    why = {
        "person": "A person was seen." if scene.people == 1 else "People were seen.",
        "vehicle": "A vehicle was seen, and no person.",
        "animal": "Only animals were seen; they come and go at any hour.",
        "other": "Neither a person, a vehicle nor an animal was seen.",
    }[scene.kind]
    return Signal(name="object", value=value, points=_KIND_POINTS[scene.kind], why=why)


def _time_of_day(scene: _Scene) -> Signal:
    tables = {"person": _PERSON_PART, "vehicle": _VEHICLE_PART}
    points = tables[scene.kind][scene.part] if scene.kind in tables else 0
    subject = {"person": "someone being there", "vehicle": "a vehicle"}.get(scene.kind)
    why = f"It happened {_WHEN[scene.part]}."
    if points and subject:
        why = f"It happened {_WHEN[scene.part]}, when {subject} means more than by day."
    return Signal(name="time_of_day", value=scene.part, points=points, why=why)


def _people(scene: _Scene) -> Signal | None:
    if not scene.person:
        return None
    table = _PEOPLE_POINTS_NIGHT if scene.night else _PEOPLE_POINTS
    points = table[min(scene.people, len(table) - 1)]
    why = "One person alone." if scene.people == 1 else f"{scene.people} people were seen at once."
    return Signal(name="people", value=str(scene.people), points=points, why=why)


def _dwell(scene: _Scene) -> Signal:
    points = scene.dwell_points
    seconds = round(scene.facts.dwell_seconds)
    subject = {"person": "Someone", "vehicle": "The vehicle", "animal": "The animal"}.get(
        scene.kind, "The object"
    )
    why = f"{subject} was in view for {seconds} s." if seconds else f"{subject} was only passing."
    if scene.person and points and seconds >= 60:
        why = f"Someone stayed in view for {seconds} s, longer than it takes to ring or deliver."
    return Signal(name="dwell", value=f"{seconds} s", points=points, why=why)


def _entry_point(scene: _Scene) -> Signal | None:
    if not scene.entry_point:
        return None
    why = "The camera looks at a way into the house."
    points = 0
    if scene.person:
        points = _PERSON_ENTRY[scene.part]
        why = f"Someone was at a way into the house {_WHEN[scene.part]}."
    elif scene.kind == "vehicle" and scene.night:
        points = 5
    return Signal(name="entry_point", value="yes", points=points, why=why)


def _vehicle(scene: _Scene) -> Signal | None:
    vehicles = sorted(label for label in scene.labels if kind_of(label) == "vehicle")
    if not scene.person or not vehicles:
        return None
    points, why = (
        (4, "A vehicle was there at night too.")
        if scene.night
        else (
            2,
            "A vehicle was there too.",
        )
    )
    return Signal(
        name="vehicle", value=", ".join(map(clean_label, vehicles)), points=points, why=why
    )


def _danger(scene: _Scene) -> Signal | None:
    if scene.person and "knife" in scene.labels:
        why = "Something that looks like a knife was seen together with a person."
        return Signal(name="danger", value="knife", points=30, why=why)
    if scene.kind == "animal" and "bear" in scene.labels:
        why = "An animal that looks like a bear is dangerous to people outside."
        return Signal(name="danger", value="bear", points=30, why=why)
    return None


def _baseline(scene: _Scene) -> Signal:
    days, times = scene.facts.baseline.days_observed, scene.facts.baseline.same_hour
    noun = {"person": "people", "vehicle": "vehicles", "animal": "animals"}.get(
        scene.kind, "such objects"
    )
    weighty = scene.kind in ("person", "vehicle")
    points = 0
    if scene.habit == "unknown":
        why = "The camera is too new here to know what is usual at this hour."
    elif scene.habit == "usual":
        # What is usual takes back half of what staying added, too: children play where they live.
        points = _usual_points(scene) if weighty else 0
        why = f"Usual: {noun} were here around this hour on {times} of {days} days."
    elif scene.habit == "new":
        points = _NEW[scene.part] if weighty else 0
        why = f"Unusual: no {noun} were here around this hour in {days} days."
    else:
        why = f"Seldom: {noun} were here around this hour on {times} of {days} days."
    return Signal(name="baseline", value=scene.habit, points=points, why=why)


def _usual_points(scene: _Scene) -> int:
    if scene.kind == "vehicle":
        return -10 if scene.night else -3
    return _USUAL[scene.part] - scene.dwell_points // 2


def _pictures(scene: _Scene) -> Signal:
    seen = [f for f in scene.facts.objects if kind_of(f.label) == scene.kind]
    most = max(fact.pictures for fact in seen)
    unsure = most <= 1 and max(fact.best_score for fact in seen) < UNSURE_BELOW
    points = -2 if unsure else 0
    value = f"{most} of {scene.facts.picture_count}"
    why = f"Seen in {value} pictures."
    if unsure:
        why = "Seen in one picture only and not clearly; it may be a mistake."
    return Signal(name="pictures", value=value, points=points, why=why)


_RULES: Final[tuple[Callable[[_Scene], Signal | None], ...]] = (
    _object,
    _time_of_day,
    _people,
    _dwell,
    _entry_point,
    _vehicle,
    _danger,
    _baseline,
    _pictures,
)


def _floor(scene: _Scene) -> tuple[int, str]:
    """Return the lowest score that the worst signs allow, and why."""
    floors = [(floor, why) for holds, floor, why in _floors(scene) if holds]
    return max(floors, key=lambda item: item[0], default=(0, ""))


def _floors(scene: _Scene) -> tuple[tuple[bool, int, str], ...]:
    if not scene.person:
        return ()
    usual = scene.habit == "usual"
    at_door_at_night = scene.night and scene.entry_point
    insistent = scene.people >= 2 or scene.facts.dwell_seconds >= 30
    lingering = scene.facts.dwell_seconds >= 60
    return (
        (
            at_door_at_night and insistent and not usual,
            70,
            "Several people, or someone who stays, at a way into the house at night.",
        ),
        (at_door_at_night and not usual, 60, "Someone at a way into the house at night."),
        ("knife" in scene.labels, 45, "Something that looks like a knife next to a person."),
        (at_door_at_night, 30, "Someone at a way into the house at night, even if usual."),
        (scene.night and not usual, 30, "Someone near the house at night."),
        (lingering and not usual, 30, "Someone who stays longer than a visit takes."),
    )
