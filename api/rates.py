"""How fast each stage works its backlog off, measured over the last minute."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from streams.log import GroupBacklog

WINDOW_SECONDS = 60.0
SHORTEST_SECONDS = 2.0
"""Two looks nearer to each other say nothing about a rate."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a stage did between the oldest and the newest look; None is what nobody knows yet."""

    handled_per_second: float | None = None
    left_per_second: float | None = None
    """By how much the backlog shrinks (arrivals taken into account); negative when it grows."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    left: int
    handled: int | None


class Rates:
    """The looks of the last minute at every stage."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[_Look]] = {}
        self._newest: tuple[float, Sequence[GroupBacklog]] | None = None

    def newest(self, since: float) -> Sequence[GroupBacklog] | None:
        """Return the newest look, None when it was taken before `since` (monotonic clock)."""
        return self._newest[1] if self._newest and self._newest[0] >= since else None

    def see(self, at: float, backlog: Sequence[GroupBacklog]) -> None:
        """Keep a look taken at `at` on the monotonic clock; forget what is too old."""
        self._newest = (at, backlog)
        for group in backlog:
            looks = self._looks.setdefault(group.group, deque())
            looks.append(_Look(at, group.left, group.handled))
            while len(looks) > 2 and looks[1].at <= at - WINDOW_SECONDS:
                looks.popleft()

    def of(self, stage: str) -> Rate:
        """Return the rate of a stage."""
        looks: Sequence[_Look] = self._looks.get(stage, ())
        if len(looks) < 2 or (span := looks[-1].at - looks[0].at) < SHORTEST_SECONDS:
            return Rate()
        first, last = looks[0], looks[-1]
        handled = (
            None
            if first.handled is None or last.handled is None or last.handled < first.handled
            else (last.handled - first.handled) / span
        )
        return Rate(handled, (first.left - last.left) / span)

    def handled(self, stage: str) -> int | None:
        """Return how many entries a stage had finished at the newest look."""
        looks = self._looks.get(stage)
        return looks[-1].handled if looks else None


def clears_in(left: int, rate: Rate, *, paused: bool) -> float | None:
    """Return the seconds until nothing is left, None when that cannot be told.

    A stage that pauses, and one whose backlog does not shrink, will not be done by itself.
    """
    if left == 0:
        return 0.0
    if paused or rate.left_per_second is None or rate.left_per_second <= 0:
        return None
    return left / rate.left_per_second
