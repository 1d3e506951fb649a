"""Stages and buckets: what figures and traces call the steps, and how they sort durations."""

import pytest

from domain.durations import BOUNDS_MS, bucket_of
from domain.events import EVENT_TYPES
from domain.stages import OTHER, STAGE_OF, stage_of


def test_only_event_types_have_a_stage_and_a_new_one_is_no_error() -> None:
    assert set(STAGE_OF) <= set(EVENT_TYPES)
    assert stage_of("door.opened") == OTHER


@pytest.mark.parametrize(
    ("ms", "bucket"),
    [
        (0, 0),
        (5, 0),
        (6, 1),
        (3_600_000, len(BOUNDS_MS) - 1),
        (3_600_001, len(BOUNDS_MS)),
        (10**15, len(BOUNDS_MS)),
    ],
)
def test_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed(
    ms: int, bucket: int
) -> None:
    assert bucket_of(ms) == bucket


def test_bounds_rise() -> None:
    assert list(BOUNDS_MS) == sorted(set(BOUNDS_MS))
