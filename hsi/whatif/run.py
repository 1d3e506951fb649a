"""One run: the log's own events, the same stretch through changed settings, and the comparison.

1. The events that the log holds go into `recorded-<partition>.jsonl`.
2. The pictures are folded again into `changed-<partition>.jsonl`, with a checkpoint from time to
   time: a run that was cancelled or killed goes on from there.
3. Both are compared. Nothing is ever appended to the log or written to a table.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from domain.batching import CameraBatches
from domain.events import ObjectsDetected
from domain.risk import CameraView
from domain.whatif import (
    CameraProgress,
    CameraReplay,
    EventOutcome,
    Found,
    Knobs,
)
from hsi.whatif.folder import Plan, RunFolder, Segment
from hsi.whatif.known import Known
from hsi.whatif.recorded import Cut, Recorded, RecordedSummary
from streams.envelope import Envelope, Position
from streams.history import History
from streams.replay import Timeline, before, in_order, until

CHECKPOINT_SECONDS: Final = 2.0
MARGIN: Final = timedelta(days=1)
"""How far a camera's clock may be ahead of the log's at the beginning of the span."""

Progress = Callable[[int], None]
"""Told how many pictures were done just now."""


class Detectors(Protocol):
    """Looks at pictures again."""

    async def again(self, detected: Sequence[ObjectsDetected]) -> list[ObjectsDetected]:
        """Return what the changed model sees in each picture."""
        ...


class Refiner(Protocol):
    """Has the language model's say about an event."""

    async def refined(self, found: Found, recorded: Known) -> EventOutcome:
        """Return the event with the model's score, level and summary."""
        ...


class Checkpoint(msgspec.Struct, kw_only=True):
    """How far the changed side of one partition is."""

    position: Position
    length: int
    """Bytes of the segment that belong to it."""
    pictures: int
    cameras: list[CameraProgress]
    done: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What the replay knows besides the pictures."""

    history: History
    knobs: Timeline[Knobs]
    """Changed settings, by the log's clock."""
    cameras: Mapping[str, Timeline[CameraView]]
    detectors: Detectors | None = None
    """None: the boxes that the log holds."""
    refiner: Refiner | None = None
    """None: rules alone on both sides."""

    def view_at(self, camera_id: str) -> Callable[[datetime], CameraView]:
        """Return how a camera was described at a moment."""
        told = self.cameras.get(camera_id)
        unknown = CameraView(camera_id, entry_point=False)
        return told.at if told else lambda _: unknown


async def read_recorded(
    folder: RunFolder, plan: Plan, world: World, partition: int
) -> RecordedSummary:
    """Write the log's own events of one partition, unless that is done already."""
    name = f"recorded-{partition}"
    if (done := folder.load(name, RecordedSummary)) is not None:
        return done
    ends = plan.bounds[partition].ends
    with folder.segment(name) as segment, folder.segment(f"refined-{partition}") as refined:
        recorded = Recorded(
            plan.span,
            lambda moment: world.knobs.at(moment).policy.zone,
            segment.write,
            refined.write if world.refiner is not None else None,
        )
        batches = until(world.history, "batches", partition, Position(0, 0), ends["batches"])
        assessed = until(
            world.history,
            "assessments",
            partition,
            before(plan.span.begin - MARGIN),
            ends["assessments"],
        )
        async for envelope in in_order(batches, assessed):
            recorded.take(envelope)
        segment.sync()
        refined.sync()
    summary = recorded.summary()
    folder.store(name, summary)
    return summary


@dataclass
class Changed:
    """The changed side of one partition while it is folded."""

    plan: Plan
    world: World
    partition: int
    summary: RecordedSummary
    recorded: Known
    """The log's own events with the model's say; only used with a refiner."""
    progress: Progress
    replays: dict[str, CameraReplay] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    """When each camera's last picture was recorded."""
    pictures: int = 0

    async def run(self, folder: RunFolder) -> int:
        """Fold the pictures, from the last checkpoint on; return how many there were."""
        name = f"changed-{self.partition}"
        start = folder.load(name, Checkpoint) or self._beginning()
        self.pictures = start.pictures
        self.progress(start.pictures)
        if start.done:
            return start.pictures
        for progress in start.cameras:
            self._enter(progress, start.position.recorded_at)
        end = self.plan.bounds[self.partition].ends["detections"]
        with folder.segment(name, keep=start.length) as segment:
            position, saved = start.position, time.monotonic()
            async for run in until(
                self.world.history, "detections", self.partition, start.position, end
            ):
                await self._fold(run, segment)
                position = run[-1].position if run else position
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    folder.store(name, self._checkpoint(position, segment))
                    saved = time.monotonic()
            for replay in self.replays.values():
                found = self._turns(replay, self._limit)
                found += replay.ends(self.world.knobs.at(self._limit))
                await self._write(found, segment)
            final = self._checkpoint(position, segment)
            final.done = True
            folder.store(name, final)
        return self.pictures

    @property
    def _limit(self) -> datetime:
        """Return up to when detections had been batched."""
        handled, last = self.plan.bounds[self.partition].handled, self.summary.last_detected_at
        return handled if last is None else max(handled, last)

    def _beginning(self) -> Checkpoint:
        firsts = [cut.first_at for cut in self.summary.cuts.values() if cut.first_at is not None]
        first = min([self.plan.span.begin - MARGIN, *firsts])
        return Checkpoint(position=before(first), length=0, pictures=0, cameras=[])

    def _checkpoint(self, position: Position, segment: Segment) -> Checkpoint:
        return Checkpoint(
            position=position,
            length=segment.sync(),
            pictures=self.pictures,
            cameras=[replay.progress for replay in self.replays.values()],
        )

    def _enter(self, progress: CameraProgress, now: datetime) -> None:
        view_at, knobs = self.world.view_at(progress.camera_id), self.world.knobs.at(now)
        self.replays[progress.camera_id] = CameraReplay(progress, view_at, knobs)

    async def _fold(self, run: Sequence[Envelope], segment: Segment) -> None:
        chosen = [
            (envelope.event, envelope.recorded_at)
            for envelope in run
            if isinstance(envelope.event, ObjectsDetected)
            and self._counts(envelope.event, envelope.recorded_at)
        ]
        events = await self._seen([event for event, _ in chosen])
        for event, (_, recorded_at) in zip(events, chosen, strict=True):
            replay = self.replays[event.camera_id]
            found = self._turns(replay, recorded_at)
            found += replay.sees(event, recorded_at, self.world.knobs.at(recorded_at))
            if found:
                await self._write(found, segment)
        self.pictures += len(events)
        self.progress(len(events))

    def _turns(self, replay: CameraReplay, now: datetime) -> list[Found]:
        """Return what fell due under settings that changed since the camera's last picture."""
        camera = replay.progress.camera_id
        last, self.seen[camera] = self.seen.get(camera, now), now
        turns = self.world.knobs.within(last, now)[1:]
        return [found for since, knobs in turns for found in replay.turn(knobs, since)]

    def _counts(self, event: ObjectsDetected, recorded_at: datetime) -> bool:
        """Say whether a picture belongs to the replay; the first one of a camera begins it."""
        if recorded_at > self._limit or not self.plan.span.sees(event.camera_id):
            return False
        if event.camera_id in self.replays:
            return True
        cut = self.summary.cuts.get(event.camera_id) or Cut()
        if event.picture_id != cut.first_picture:
            if cut.after is not None and recorded_at <= cut.after:
                return False
            if event.captured_at < self.plan.span.begin:
                return False
        state = CameraBatches(usual=cut.usual)
        self._enter(CameraProgress(camera_id=event.camera_id, state=state), recorded_at)
        return True

    async def _seen(self, events: list[ObjectsDetected]) -> list[ObjectsDetected]:
        """Return what the changed model sees, where there is one and the picture matters."""
        if self.world.detectors is None:
            return events
        # A picture later than this shares no batch with one that begins within the span.
        last = self.plan.span.end + max(k.policy.window for k in self.world.knobs.values())
        wanted = [i for i, event in enumerate(events) if event.captured_at < last]
        again = await self.world.detectors.again([events[i] for i in wanted])
        for index, event in zip(wanted, again, strict=True):
            events[index] = event
        return events

    async def _write(self, found: Sequence[Found], segment: Segment) -> None:
        for one in found:
            if not self.plan.span.holds(one.outcome.started_at):
                continue
            outcome = one.outcome
            if self.world.refiner is not None:
                outcome = await self.world.refiner.refined(one, self.recorded)
            segment.write(outcome)
