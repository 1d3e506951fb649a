"""Every signal with its points, the floors, and the order of labelled scenarios."""

from itertools import combinations

import pytest
from support.risk_scenes import facts

from domain.events import BatchFacts, Signal
from domain.risk_rules import Verdict, habit_of, judge


def signal(verdict: Verdict, name: str) -> Signal | None:
    return next((found for found in verdict.signals if found.name == name), None)


def points(verdict: Verdict, name: str) -> int | None:
    found = signal(verdict, name)
    return None if found is None else found.points


@pytest.mark.parametrize(
    ("name", "given", "entry_point", "then"),
    [
        # what was seen
        ("object", facts("person"), False, 12),
        ("object", facts("car"), False, 5),
        ("object", facts("cat"), False, 3),
        ("object", facts("bench"), False, 2),
        ("object", facts(), False, 0),
        # time of day
        ("time_of_day", facts("person", part="night"), False, 22),
        ("time_of_day", facts("person", part="dawn"), False, 8),
        ("time_of_day", facts("person", part="day"), False, 0),
        ("time_of_day", facts("person", part="evening"), False, 5),
        ("time_of_day", facts("car", part="night"), False, 12),
        ("time_of_day", facts("cat", part="night"), False, 0),
        # number of people
        ("people", facts("person"), False, 0),
        ("people", facts("person", "person"), False, 4),
        ("people", facts(*["person"] * 3), False, 8),
        ("people", facts(*["person"] * 9), False, 12),
        ("people", facts("person", "person", part="night"), False, 10),
        ("people", facts(*["person"] * 9, part="night"), False, 18),
        ("people", facts("car"), False, None),
        # dwell
        ("dwell", facts("person", dwell=14.9), False, 0),
        ("dwell", facts("person", dwell=15), False, 5),
        ("dwell", facts("person", dwell=30), False, 14),
        ("dwell", facts("person", dwell=60), False, 30),
        ("dwell", facts("person", dwell=180), False, 36),
        ("dwell", facts("person", dwell=60, part="night"), False, 18),
        ("dwell", facts("car", dwell=600), False, 0),
        ("dwell", facts("car", dwell=30, part="night"), False, 8),
        ("dwell", facts("cat", dwell=600, part="night"), False, 0),
        # a way into the house
        ("entry_point", facts("person"), False, None),
        ("entry_point", facts("person"), True, 5),
        ("entry_point", facts("person", part="dawn"), True, 8),
        ("entry_point", facts("person", part="night"), True, 28),
        ("entry_point", facts("car"), True, 0),
        ("entry_point", facts("car", part="night"), True, 5),
        # a vehicle beside people
        ("vehicle", facts("person", "truck"), False, 2),
        ("vehicle", facts("person", "car", part="night"), False, 4),
        ("vehicle", facts("car"), False, None),
        # danger that can be seen
        ("danger", facts("person", "knife"), False, 30),
        ("danger", facts("knife"), False, None),
        ("danger", facts("bear"), False, 30),
        # what is usual
        ("baseline", facts("person", days=2, times=9), False, 0),
        ("baseline", facts("person", days=3, times=3), False, -7),
        ("baseline", facts("person", days=3, times=0), False, 5),
        ("baseline", facts("person", days=20, times=9), False, 0),
        ("baseline", facts("person", days=20, times=10, part="evening"), False, -12),
        ("baseline", facts("person", days=20, times=10, dwell=60), False, -22),
        ("baseline", facts("person", days=20, part="night"), False, 10),
        ("baseline", facts("person", days=20, times=20, part="night"), False, -20),
        ("baseline", facts("car", days=20, times=20), False, -3),
        ("baseline", facts("car", days=20, times=20, part="night"), False, -10),
        ("baseline", facts("cat", days=20), False, 0),
        # pictures
        ("pictures", facts("person", seen_in=1, score=0.59), False, -2),
        ("pictures", facts("person", seen_in=1, score=0.6), False, 0),
        ("pictures", facts("person", seen_in=2, score=0.55), False, 0),
    ],
)
def test_a_signal_adds_its_points(
    name: str, given: BatchFacts, entry_point: bool, then: int | None
) -> None:
    assert points(judge(given, entry_point=entry_point), name) == then


@pytest.mark.parametrize(
    ("days", "times", "habit"),
    [
        (0, 0, "unknown"),
        (2, 50, "unknown"),
        (3, 0, "new"),
        (3, 2, "rare"),
        (3, 3, "usual"),
        (6, 3, "usual"),
        (7, 3, "rare"),
    ],
)
def test_what_is_usual_needs_days_and_times(days: int, times: int, habit: str) -> None:
    assert habit_of(facts("person", days=days, times=times)) == habit


@pytest.mark.parametrize(
    ("given", "entry_point", "floor"),
    [
        (facts("person"), True, 0),
        (facts("cat", part="night", days=9), True, 0),
        (facts("car", part="night", days=9), True, 0),
        (facts("person", part="night"), False, 30),
        (facts("person", part="night", days=9, times=9), False, 0),
        (facts("person", part="night"), True, 60),
        (facts("person", part="night", days=9, times=9), True, 30),
        (facts("person", part="night", dwell=30), True, 70),
        (facts("person", "person", part="night"), True, 70),
        (facts("person", "person", part="night", days=9, times=9), True, 30),
        (facts("person", dwell=60), False, 30),
        (facts("person", dwell=60, days=9, times=9), False, 0),
        (facts("person", "knife"), False, 45),
        (facts("person", "knife", part="night"), True, 60),
    ],
)
def test_the_worst_signs_set_a_floor(given: BatchFacts, entry_point: bool, floor: int) -> None:
    verdict = judge(given, entry_point=entry_point)
    assert verdict.floor == floor
    assert verdict.score >= floor
    assert bool(verdict.floor_why) == bool(floor)


def test_a_sum_below_the_floor_is_raised_by_a_signal_that_says_so() -> None:
    verdict = judge(facts("person", "knife", seen_in=1, score=0.5), entry_point=False)
    assert verdict.score == verdict.floor == 45
    raised = signal(verdict, "floor")
    assert raised is not None
    assert raised.points == 5
    assert "knife" in raised.why


def test_a_sum_above_the_scale_is_cut_by_a_signal_that_says_so() -> None:
    crowd = facts(*["person"] * 4, "knife", part="night", dwell=200, days=9)
    verdict = judge(crowd, entry_point=True)
    assert verdict.score == 100
    assert (points(verdict, "limit") or 0) < 0


@pytest.mark.parametrize(
    ("given", "entry_point", "low", "high"),
    [
        (facts("person", days=20, times=20), False, 5, 15),
        (facts("person", days=20, times=20, dwell=14), True, 5, 15),
        (facts("person", "car", days=20, times=20, part="evening"), True, 5, 15),
        (facts("person"), True, 15, 25),
        (facts("person", "truck", dwell=20), True, 15, 25),
        (facts("person", dwell=75), True, 45, 60),
        (facts("person", dwell=75, days=20), False, 45, 60),
        (facts("person", dwell=75, part="evening", days=20), True, 45, 60),
        (facts("person", part="night"), True, 60, 84),
        (facts("person", part="night", dwell=40, days=20), True, 70, 85),
        (facts("person", "person", part="night", dwell=44, days=20), True, 85, 100),
    ],
)
def test_scores_lie_in_the_anchors_of_the_scale(
    given: BatchFacts, entry_point: bool, low: int, high: int
) -> None:
    assert low <= judge(given, entry_point=entry_point).score <= high


SCENARIOS: list[tuple[str, int, BatchFacts, bool]] = [
    ("cat at night", 0, facts("cat", part="night", dwell=20), False),
    ("parked car by day", 0, facts("car", dwell=80, days=20, times=40), False),
    ("resident comes home", 1, facts("person", "car", days=20, times=26, dwell=12), True),
    ("child plays in the yard", 2, facts("person", days=20, times=30, dwell=80), False),
    ("mail carrier by day", 2, facts("person", days=20, times=6, dwell=8), True),
    ("parcel van by day", 2, facts("person", "truck", dwell=18), True),
    ("car stands at night", 3, facts("car", part="night", dwell=80, days=20), False),
    ("stranger lingers by day", 4, facts("person", dwell=80, days=20), False),
    ("stranger lingers at the gate", 4, facts("person", dwell=80, part="evening"), True),
    ("stranger at the door at 3", 5, facts("person", part="night", days=20), True),
    ("stranger stays at a window at 3", 6, facts("person", part="night", dwell=40, days=20), True),
    ("people at the back door at 3", 7, facts(*["person"] * 3, part="night", dwell=70), True),
]


def test_labelled_scenarios_come_out_in_order() -> None:
    """Of all pairs that differ in rank, at least 33 of 36 in 36 must be in order."""
    scored = [
        (rank, judge(scene, entry_point=entry).score, name)
        for name, rank, scene, entry in SCENARIOS
    ]
    pairs = [(a, b) for a, b in combinations(scored, 2) if a[0] != b[0]]
    wrong = [(a, b) for a, b in pairs if (a[0] < b[0]) != (a[1] < b[1])]
    assert len(pairs) >= 36
    assert len(pairs) - len(wrong) >= len(pairs) * 33 / 36, wrong


def test_every_sign_has_words() -> None:
    for _, _, scene, entry in SCENARIOS:
        for found in judge(scene, entry_point=entry).signals:
            assert found.value
            assert found.why.endswith(".")
            assert not found.why[0].islower()
