"""Given, when, then for the batching rules, and a fold of a whole log."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from support.logs import NOON, POLICY

from domain.batching import CameraBatches, decide, evolve, expire, next_deadline
from domain.events import BatchClosed, BatchEscalated, Event, ObjectsDetected, PictureBatched

Given = tuple[ObjectsDetected, datetime]
"""A picture's detections, and when the log took them in."""


class Camera:
    """One camera's batches as they are decided, with every event that was emitted."""

    def __init__(self, camera_id: str = "porch") -> None:
        self.camera_id = camera_id
        self.state = CameraBatches()
        self.events: list[Event] = []

    def sees(self, detected: ObjectsDetected, recorded: float | datetime) -> tuple[Event, ...]:
        """Decide a picture whose detections were recorded then (seconds after noon)."""
        return self._fold(decide(self.state, POLICY, detected, _moment(recorded)))

    def clock(self, now: float | datetime) -> tuple[Event, ...]:
        """Let the log's clock be asked for closes."""
        return self._fold(expire(self.state, POLICY, self.camera_id, _moment(now)))

    def end(self) -> None:
        """Let the log's clock pass the last deadline."""
        deadline = next_deadline(self.state, POLICY)
        if deadline is not None:
            self.clock(deadline)

    def _fold(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        for event in events:
            self.state = evolve(self.state, POLICY, event)
        self.events += events
        return events

    @property
    def closed(self) -> list[BatchClosed]:
        return [event for event in self.events if isinstance(event, BatchClosed)]

    @property
    def joined(self) -> list[PictureBatched]:
        return [event for event in self.events if isinstance(event, PictureBatched)]

    @property
    def escalated(self) -> list[BatchEscalated]:
        return [event for event in self.events if isinstance(event, BatchEscalated)]

    def sizes(self) -> list[tuple[int, str]]:
        """Return each closed batch as its number of pictures and the reason."""
        return [(len(batch.members), batch.reason) for batch in self.closed]


def folded(events: Iterable[Event], state: CameraBatches | None = None) -> CameraBatches:
    """Return the state that events lead to."""
    after = CameraBatches() if state is None else state
    for event in events:
        after = evolve(after, POLICY, event)
    return after


def run_of(given: Sequence[Given]) -> Camera:
    """Return a camera that saw all this, in log order, without any timer, and then rested."""
    camera = Camera()
    for detected, recorded in given:
        camera.sees(detected, recorded)
    camera.end()
    return camera


def _moment(value: float | datetime) -> datetime:
    return value if isinstance(value, datetime) else NOON + timedelta(seconds=value)
