"""Batching while its settings change: which of them decides what. Pure.

A change counts for detections that the log took in after it. What the settings before it would
have closed by then is closed as they say, whether or not a timer came first: so a replay of the
log makes the same batches.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime

from domain.batching import BatchPolicy, CameraBatches, decide, evolve, expire, next_deadline
from domain.events import Event, ObjectsDetected

_EVER = datetime.min.replace(tzinfo=UTC)


class Policies:
    """The policies there were, each with the moment from which it counts."""

    def __init__(self, first: BatchPolicy) -> None:
        self._since: list[datetime] = [_EVER]
        self._policies: list[BatchPolicy] = [first]

    @property
    def newest(self) -> BatchPolicy:
        """Return the policy in force now."""
        return self._policies[-1]

    def start(self, policy: BatchPolicy) -> None:
        """Let `policy` be what counted before any change."""
        self._since, self._policies = [_EVER], [policy]

    def set(self, since: datetime, policy: BatchPolicy) -> None:
        """Add the newest policy."""
        if policy != self.newest:
            self._since.append(since)
            self._policies.append(policy)

    def at(self, moment: datetime) -> BatchPolicy:
        """Return the policy in force at a moment."""
        return self._policies[bisect_right(self._since, moment) - 1]

    def decide(
        self, state: CameraBatches, detected: ObjectsDetected, detected_at: datetime
    ) -> tuple[Event, ...]:
        """Return what one picture's detections lead to, what was due before a change included."""
        due = self._due_before(state, detected.camera_id, detected_at)
        policy = self.at(detected_at)
        for event in due:
            state = evolve(state, policy, event)
        return *due, *decide(state, policy, detected, detected_at)

    def expire(self, state: CameraBatches, camera_id: str, now: datetime) -> tuple[Event, ...]:
        """Return the close that the log's clock asks for at `now`."""
        due = self._due_before(state, camera_id, now)
        return due or expire(state, self.at(now), camera_id, now)

    def next_deadline(self, state: CameraBatches) -> datetime | None:
        """Return when `expire` would close the open batch, None when there is none."""
        for policy, until in self._ended():
            deadline = next_deadline(state, policy)
            if deadline is not None and deadline <= until:
                return deadline
        return next_deadline(state, self.newest)

    def _due_before(
        self, state: CameraBatches, camera_id: str, now: datetime
    ) -> tuple[Event, ...]:
        """Return the close that fell due under a policy that had ended by `now`."""
        for policy, until in self._ended():
            if until <= now and (due := expire(state, policy, camera_id, until)):
                return due
        return ()

    def _ended(self) -> Iterator[tuple[BatchPolicy, datetime]]:
        """Give every policy but the newest, with the moment at which it ended."""
        return zip(self._policies[:-1], self._since[1:], strict=True)
