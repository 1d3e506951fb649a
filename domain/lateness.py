"""Whether an event came so long after its pictures that one must be told, or not be woken by it.

Both are judged by the time at which the log took the assessment in, which never changes.
"""

from datetime import datetime, timedelta
from typing import Literal

LATE_AFTER_SECONDS = 300
"""Well above what a batch needs to end by itself (its window, then its idle gap)."""

NoAlert = Literal["too_old"]
"""Why an event is to alert nobody."""


def is_late(ended_at: datetime, assessed_at: datetime, after_seconds: float) -> bool:
    """Say whether the rules' assessment came more than `after_seconds` after the last picture."""
    return assessed_at - ended_at > timedelta(seconds=after_seconds)


def why_no_alert(
    ended_at: datetime, recorded_at: datetime, within_seconds: int | None
) -> NoAlert | None:
    """Return why an assessment alerts nobody; None when it does.

    `within_seconds` is the limit that the assessment itself carries, whatever is set now.
    """
    if within_seconds is None or recorded_at - ended_at <= timedelta(seconds=within_seconds):
        return None
    return "too_old"
