"""From a batch to its facts."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from support.risk_scenes import box, closed, escalated, members

from domain.events import Baseline, ObjectFact
from domain.scene import facts_of, kind_of, main_kind, part_of_day

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("hour", "minute", "part"),
    [
        (22, 59, "evening"),
        (23, 0, "night"),
        (0, 0, "night"),
        (4, 59, "night"),
        (5, 0, "dawn"),
        (6, 59, "dawn"),
        (7, 0, "day"),
        (18, 59, "day"),
        (19, 0, "evening"),
    ],
)
def test_the_parts_of_the_day_begin_where_they_are_said_to(
    hour: int, minute: int, part: str
) -> None:
    assert part_of_day(datetime(2026, 6, 2, hour, minute, tzinfo=UTC)) == part


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["cat", "car", "person"], "person"),
        (["cat", "truck"], "vehicle"),
        (["dog", "bench"], "animal"),
        (["bench"], "other"),
        ([], None),
    ],
)
def test_the_weightiest_kind_is_the_main_kind(labels: list[str], kind: str | None) -> None:
    assert main_kind(labels) == kind


def test_a_label_counts_in_any_case() -> None:
    assert kind_of("Person") == "person"


def test_objects_are_counted_by_picture_and_ordered_by_weight() -> None:
    # given a car in every picture and up to two people in some
    pictures = members(
        [box("car", 0.8)],
        [box("car", 0.7), box("person", 0.6), box("person", 0.95)],
        [box("car", 0.6), box("person", 0.5)],
    )
    # when the batch's facts are taken
    facts = facts_of(closed(pictures, baseline=Baseline(days_observed=4, same_hour=1)), BERLIN)
    # then people come first, and dwell is theirs
    assert facts.objects == (
        ObjectFact(label="person", most_at_once=2, pictures=2, best_score=0.95),
        ObjectFact(label="car", most_at_once=1, pictures=3, best_score=0.8),
    )
    assert facts.dwell_seconds == 5
    assert facts.picture_count == 3
    assert facts.baseline == Baseline(days_observed=4, same_hour=1)


def test_time_is_the_cameras_own_also_across_midnight_and_summer_time() -> None:
    pictures = members([box("person")], start=datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    facts = facts_of(escalated(pictures), BERLIN)
    assert facts.local_time == "2026-03-29 03:30 Sunday"
    assert facts.part_of_day == "night"
    late = members([box("person")], start=datetime(2026, 6, 2, 22, 30, tzinfo=UTC))
    assert facts_of(closed(late), BERLIN).local_time == "2026-06-03 00:30 Wednesday"


@pytest.mark.parametrize(
    ("utc", "local", "part"),
    [
        ("2026-03-28T21:59", "2026-03-28 22:59 Saturday", "evening"),
        ("2026-03-28T22:00", "2026-03-28 23:00 Saturday", "night"),
        ("2026-03-29T02:59", "2026-03-29 04:59 Sunday", "night"),
        ("2026-03-29T03:00", "2026-03-29 05:00 Sunday", "dawn"),
        ("2026-10-24T21:00", "2026-10-24 23:00 Saturday", "night"),
        ("2026-10-25T00:30", "2026-10-25 02:30 Sunday", "night"),
        ("2026-10-25T01:30", "2026-10-25 02:30 Sunday", "night"),
        ("2026-10-25T03:59", "2026-10-25 04:59 Sunday", "night"),
        ("2026-10-25T04:00", "2026-10-25 05:00 Sunday", "dawn"),
    ],
)
def test_a_night_lasts_by_the_clock_when_the_clocks_change(
    utc: str, local: str, part: str
) -> None:
    """Both changes of Berlin: a night of an hour less, and one that has an hour twice."""
    began = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    facts = facts_of(closed(members([box("person")], start=began)), BERLIN)
    assert (facts.local_time, facts.part_of_day) == (local, part)


def test_pictures_out_of_order_give_the_same_facts() -> None:
    ordered = members([box("person")], [box("car")], [box("person")])
    turned = closed(ordered)
    shuffled = (ordered[2], ordered[0], ordered[1])
    assert facts_of(closed(shuffled), BERLIN).dwell_seconds == 10
    assert facts_of(turned, BERLIN).dwell_seconds == 10


def test_a_batch_without_detections_has_no_objects() -> None:
    facts = facts_of(closed(members([], [])), BERLIN)
    assert facts.objects == ()
    assert facts.dwell_seconds == 0
