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
from domain.rule_weights import RULES, ByPart, RuleWeights
from domain.scene import Kind, kind_of, main_kind

_WHEN: Final = {
    "night": "at night",
    "dawn": "at dawn",
    "day": "by day",
    "evening": "in the evening",
}
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
    weights: RuleWeights
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
        seconds, weights = self.facts.dwell_seconds, self.weights
        step = sum(1 for limit in weights.dwell_seconds if seconds >= limit)
        if self.person:
            return (weights.dwell_night if self.night else weights.dwell)[step]
        stays = self.kind == "vehicle" and self.night and step >= 2
        return weights.dwell_vehicle_night if stays else 0

    def by_part(self, points: ByPart) -> int:
        """Return the points for this part of the day."""
        found: int = getattr(points, self.part)
        return found


def habit_of(facts: BatchFacts, weights: RuleWeights = RULES.weights) -> Habit:
    """Return how usual this kind of object is for this camera at this hour."""
    baseline = facts.baseline
    if baseline.days_observed < weights.usual_days:
        return "unknown"
    if baseline.same_hour <= 0:
        return "new"
    often = baseline.same_hour >= weights.usual_times
    every_other_day = 2 * baseline.same_hour >= baseline.days_observed
    return "usual" if often and every_other_day else "rare"


def judge(
    facts: BatchFacts, *, entry_point: bool, weights: RuleWeights = RULES.weights
) -> Verdict:
    """Return score, floor and signals; the same facts and weights give the same verdict."""
    kind = main_kind(fact.label for fact in facts.objects)
    if kind is None:
        nothing = Signal(
            name="object", value="nothing", points=0, why="Nothing was recognised in the pictures."
        )
        return Verdict(score=0, floor=0, floor_why="", signals=(nothing,))
    scene = _Scene(
        facts=facts,
        weights=weights,
        entry_point=entry_point,
        kind=kind,
        labels=frozenset(fact.label.casefold() for fact in facts.objects),
        people=max(
            (f.most_at_once for f in facts.objects if kind_of(f.label) == "person"), default=0
        ),
        habit=habit_of(facts, weights),
    )
    signals = [signal for rule in _RULES if (signal := rule(scene)) is not None]
    floor, floor_why = _floor(scene)
    signals += _settled(sum(signal.points for signal in signals), floor, floor_why)
    score = sum(signal.points for signal in signals)
    return Verdict(score=score, floor=floor, floor_why=floor_why, signals=tuple(signals))


def _settled(total: int, floor: int, floor_why: str) -> list[Signal]:
    """Return the signal that brings `total` up to the floor or onto the scale, if one must."""
    if total < floor:
        why = floor_why or "The scale begins at 0."
        return [Signal(name="floor", value=str(floor), points=floor - total, why=why)]
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
    points = getattr(scene.weights.object, scene.kind)
    return Signal(name="object", value=value, points=points, why=why)


def _time_of_day(scene: _Scene) -> Signal:
    tables = {"person": scene.weights.time_person, "vehicle": scene.weights.time_vehicle}
    points = scene.by_part(tables[scene.kind]) if scene.kind in tables else 0
    subject = {"person": "someone being there", "vehicle": "a vehicle"}.get(scene.kind)
    why = f"It happened {_WHEN[scene.part]}."
    if points and subject:
        why = f"It happened {_WHEN[scene.part]}, when {subject} means more than by day."
    return Signal(name="time_of_day", value=scene.part, points=points, why=why)


def _people(scene: _Scene) -> Signal | None:
    if not scene.person:
        return None
    table = scene.weights.people_night if scene.night else scene.weights.people
    points = table[max(0, min(scene.people, len(table)) - 1)]
    why = "One person alone." if scene.people == 1 else f"{scene.people} people were seen at once."
    return Signal(name="people", value=str(scene.people), points=points, why=why)


def _dwell(scene: _Scene) -> Signal:
    points = scene.dwell_points
    seconds = round(scene.facts.dwell_seconds)
    subject = {"person": "Someone", "vehicle": "The vehicle", "animal": "The animal"}.get(
        scene.kind, "The object"
    )
    why = f"{subject} was in view for {seconds} s." if seconds else f"{subject} was only passing."
    if scene.person and points and seconds >= scene.weights.lingering_seconds:
        why = f"Someone stayed in view for {seconds} s, longer than it takes to ring or deliver."
    return Signal(name="dwell", value=f"{seconds} s", points=points, why=why)


def _entry_point(scene: _Scene) -> Signal | None:
    if not scene.entry_point:
        return None
    why = "The camera looks at a way into the house."
    points = 0
    if scene.person:
        points = scene.by_part(scene.weights.entry_person)
        why = f"Someone was at a way into the house {_WHEN[scene.part]}."
    elif scene.kind == "vehicle" and scene.night:
        points = scene.weights.entry_vehicle_night
    return Signal(name="entry_point", value="yes", points=points, why=why)


def _vehicle(scene: _Scene) -> Signal | None:
    vehicles = sorted(label for label in scene.labels if kind_of(label) == "vehicle")
    if not scene.person or not vehicles:
        return None
    points, why = (
        (scene.weights.beside_night, "A vehicle was there at night too.")
        if scene.night
        else (scene.weights.beside, "A vehicle was there too.")
    )
    return Signal(
        name="vehicle", value=", ".join(map(clean_label, vehicles)), points=points, why=why
    )


def _danger(scene: _Scene) -> Signal | None:
    if scene.person and "knife" in scene.labels:
        why = "Something that looks like a knife was seen together with a person."
        return Signal(name="danger", value="knife", points=scene.weights.knife, why=why)
    if scene.kind == "animal" and "bear" in scene.labels:
        why = "An animal that looks like a bear is dangerous to people outside."
        return Signal(name="danger", value="bear", points=scene.weights.bear, why=why)
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
        points = scene.by_part(scene.weights.new) if weighty else 0
        why = f"Unusual: no {noun} were here around this hour in {days} days."
    else:
        why = f"Seldom: {noun} were here around this hour on {times} of {days} days."
    return Signal(name="baseline", value=scene.habit, points=points, why=why)


def _usual_points(scene: _Scene) -> int:
    weights = scene.weights
    if scene.kind == "vehicle":
        return weights.usual_vehicle_night if scene.night else weights.usual_vehicle
    return scene.by_part(weights.usual_person) - scene.dwell_points // 2


def _pictures(scene: _Scene) -> Signal:
    seen = [f for f in scene.facts.objects if kind_of(f.label) == scene.kind]
    most = max(fact.pictures for fact in seen)
    best = max(fact.best_score for fact in seen)
    unsure = most <= 1 and best < scene.weights.unsure_below
    points = scene.weights.unsure if unsure else 0
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
    floors = [(floor, why) for holds, floor, why in _floors(scene) if holds and floor]
    return max(floors, key=lambda item: item[0], default=(0, ""))


def _floors(scene: _Scene) -> tuple[tuple[bool, int, str], ...]:
    if not scene.person:
        return ()
    weights, seconds = scene.weights, scene.facts.dwell_seconds
    usual = scene.habit == "usual"
    at_door_at_night = scene.night and scene.entry_point
    insistent = scene.people >= weights.insistent_people or seconds >= weights.insistent_seconds
    lingering = seconds >= weights.lingering_seconds
    return (
        (
            at_door_at_night and insistent and not usual,
            weights.floor_insistent,
            "Several people, or someone who stays, at a way into the house at night.",
        ),
        (
            at_door_at_night and not usual,
            weights.floor_entry,
            "Someone at a way into the house at night.",
        ),
        (
            "knife" in scene.labels,
            weights.floor_knife,
            "Something that looks like a knife next to a person.",
        ),
        (
            at_door_at_night,
            weights.floor_entry_usual,
            "Someone at a way into the house at night, even if usual.",
        ),
        (scene.night and not usual, weights.floor_night, "Someone near the house at night."),
        (
            lingering and not usual,
            weights.floor_lingering,
            "Someone who stays longer than a visit takes.",
        ),
    )
