"""Whether an event was assessed so long after its pictures were taken that one must be told."""

from datetime import datetime, timedelta

LATE_AFTER_SECONDS = 300
"""Well above what a batch needs to end by itself (its window, then its idle gap)."""


def is_late(ended_at: datetime, assessed_at: datetime, after_seconds: float) -> bool:
    """Say whether the rules' assessment came more than `after_seconds` after the last picture."""
    return assessed_at - ended_at > timedelta(seconds=after_seconds)
