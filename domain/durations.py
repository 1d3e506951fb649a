"""How long the steps of a stage take: bounds of the buckets in which they are counted."""

from bisect import bisect_left
from typing import Final

BOUNDS_MS: Final = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000),
)
"""Upper bounds in milliseconds, each in its bucket; what took longer is in one more."""


def bucket_of(ms: int) -> int:
    """Return the index of the bucket of a duration."""
    return bisect_left(BOUNDS_MS, ms)
