"""ObjectsDetected → PictureBatched, BatchEscalated, BatchClosed: one owner a partition.

The state of every camera of a partition is a fold of the `batches` stream. It is rebuilt (from
the newest snapshot on) whenever the partition is taken over, and thrown away whenever a
settlement was refused, so it never differs from the log.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from agents.policies import ToldPolicies
from domain.batching import BatchPolicy, CameraBatches, evolve
from domain.errors import ServiceUnavailableError
from domain.events import BatchClosed, EntryParked, Event, ObjectsDetected
from domain.ids import follow_up_id
from domain.outcomes import Done, Outcome
from domain.policies import Policies
from domain.trace import traceparent_of
from streams.channel import StreamChannel, each
from streams.connection import BehindLogError
from streams.envelope import START, Envelope, NewEvent, Position
from streams.feed import Run
from streams.history import History
from streams.lease import Lease
from streams.log import EventLog
from streams.segments import ArchiveError

logger = logging.getLogger(__name__)

ROLE = "batch"
FOLDED = BatchClosed.STREAM
"""The stream that the state is folded from; only the owner of its partition appends to it."""
FOLD_RUN = 1000
SNAPSHOT_EVERY = 1000
"""Events folded since the last snapshot after which the next one is stored."""
TICK_SECONDS = 0.25
ARCHIVE_RETRY_SECONDS = 10.0
"""How long to wait before an archive that lacks something is looked at again."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A fold of one partition's `batches` stream up to a position."""

    incarnation: str
    ms: int
    seq: int
    cameras: dict[str, CameraBatches]


class PartitionBatches:
    """The state of one partition's cameras, and where in the `batches` stream it stands."""

    def __init__(
        self,
        log: EventLog,
        policies: ToldPolicies,
        partition: int,
        archive_dir: Path | None = None,
    ) -> None:
        self.log = log
        self._past = History(log, archive_dir)
        self._told = policies
        self.partition = partition
        self.lock = asyncio.Lock()
        """One decision at a time: a run of entries, a tick of the clock, or a rebuild."""
        self.cameras: dict[str, CameraBatches] = {}
        self.position = START
        self.stale = True
        """True while the state may differ from the log; nothing is decided on it then."""
        self._unsaved = 0

    @property
    def policies(self) -> Policies:
        """Return the policies that were told, and from when each counts."""
        return self._told.timeline

    async def rebuild(self) -> None:
        """Fold the state anew: the newest snapshot, then everything behind it."""
        self.cameras, self.position, self._unsaved = {}, START, 0
        # An end that was deleted or trimmed counts as folded: nothing can come before it.
        end = await self.log.newest(FOLDED, self.partition)
        stored = await self.log.load_snapshot(ROLE, self.partition)
        if stored is not None:
            self._start_from(stored)
        # Without a snapshot that can be used, what was trimmed is folded from the archive.
        past = self._past.read_all(FOLDED, self.partition, self.position, count=FOLD_RUN)
        async for envelopes in past:
            for envelope in envelopes:
                self.apply(envelope.event)
            self.position = envelopes[-1].position
        self.position = max(self.position, end)
        self.stale = False

    def _start_from(self, stored: bytes) -> None:
        try:
            snapshot = msgspec.json.decode(stored, type=Snapshot)
        except msgspec.MsgspecError as error:
            # It only saves time: without it the whole past is folded.
            logger.warning("the snapshot of partition %d is not used: %s", self.partition, error)
            return
        if snapshot.incarnation == self.log.incarnation:
            self.cameras = snapshot.cameras
            self.position = Position(snapshot.ms, snapshot.seq)

    async def freshen(self) -> None:
        """Rebuild until it worked, if the state may differ from the log.

        Nothing is decided on a part of the past: while the archive lacks what was trimmed, the
        partition's entries wait. The settings that count are read up to the log's end, too.
        """
        while True:
            try:
                await self._told.catch_up()
                if self.stale:
                    await self.rebuild()
                return
            except ServiceUnavailableError as error:
                logger.warning("batches of partition %d wait: %s", self.partition, error)
                await asyncio.sleep(TICK_SECONDS)
            except ArchiveError as error:
                logger.error("batches of partition %d wait: %s", self.partition, error)
                await asyncio.sleep(ARCHIVE_RETRY_SECONDS)

    def apply(self, event: Event) -> None:
        """Fold one event of the `batches` stream."""
        state = self.cameras.get(event.camera_id, CameraBatches())
        self.cameras[event.camera_id] = evolve(state, self.policies.newest, event)
        self._unsaved += 1

    def decide(self, envelope: Envelope) -> tuple[Event, ...]:
        """Return what one entry of the `detections` stream leads to, and fold it."""
        if not isinstance(envelope.event, ObjectsDetected):
            return ()
        detected = envelope.event
        state = self.cameras.get(detected.camera_id, CameraBatches())
        events = self.policies.decide(state, detected, envelope.recorded_at)
        for event in events:
            state = evolve(state, self.policies.newest, event)
        self.cameras[detected.camera_id] = state
        self._unsaved += len(events)
        return events

    def overdue(self, now: datetime) -> list[Event]:
        """Return the closes that the log's clock asks for at `now`."""
        return [
            event
            for camera_id, state in self.cameras.items()
            for event in self.policies.expire(state, camera_id, now)
        ]

    def next_deadline(self) -> datetime | None:
        """Return when the next open batch closes without a further picture."""
        deadlines = [
            deadline
            for state in self.cameras.values()
            if (deadline := self.policies.next_deadline(state)) is not None
        ]
        return min(deadlines, default=None)

    async def save_when_due(self) -> None:
        """Store a snapshot when enough was folded since the last one."""
        if self._unsaved < SNAPSHOT_EVERY:
            return
        snapshot = Snapshot(
            incarnation=self.log.incarnation,
            ms=self.position.ms,
            seq=self.position.seq,
            cameras=self.cameras,
        )
        try:
            await self.log.store_snapshot(ROLE, self.partition, msgspec.json.encode(snapshot))
        except ServiceUnavailableError as error:
            logger.warning("the snapshot of partition %d waits: %s", self.partition, error)
            return
        self._unsaved = 0


class Batch:
    """The batching role over all partitions this process may come to own."""

    def __init__(
        self, log: EventLog, policy: BatchPolicy, *, archive_dir: Path | None = None
    ) -> None:
        """`policy` counts until the log tells of settings.

        `archive_dir` is ARCHIVE_DIR, for a fold of what was trimmed from the log.
        """
        self.log = log
        policies = ToldPolicies(log, policy, archive_dir)
        self.partitions = [
            PartitionBatches(log, policies, p, archive_dir) for p in range(log.partitions)
        ]

    async def on_owned(self, partition: int) -> None:
        """Rebuild a partition that this process has just come to own."""
        batches = self.partitions[partition]
        async with batches.lock:
            batches.stale = True
            await batches.freshen()

    async def handle(self, channel: StreamChannel, run: Run) -> None:
        """Decide a run and settle it; a refused settlement throws the state away."""
        batches = self.partitions[run.feed.group.partition]

        async def answers(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
            await batches.freshen()
            if run.feed.lease:
                run.feed.lease.folded = (FOLDED, batches.position)
            # Until the settlement's answer is here, the log may lack what is decided now.
            batches.stale = True
            return await each(answer)(envelopes)

        async def answer(envelope: Envelope) -> Outcome:
            return Done(batches.decide(envelope))

        async with batches.lock:
            all_ours = await channel.handle(run, answers)
            appended = run.feed.last_follow_ups
            if not all_ours or EntryParked.STREAM in appended:
                return  # The log has not got all that was decided.
            batches.stale = False
            batches.position = max(batches.position, appended.get(FOLDED, batches.position))
            await batches.save_when_due()

    async def tick(self, channel: StreamChannel) -> None:
        """Close what the log's clock closes, on every partition that this process owns."""
        try:
            for owner in channel.owners:
                batches = self.partitions[owner.feed.group.partition]
                if owner.owned:
                    await self._close_overdue(owner.lease, batches)
        except (ServiceUnavailableError, BehindLogError) as error:
            logger.warning("batches cannot be closed yet: %s", error)

    async def _close_overdue(self, lease: Lease, batches: PartitionBatches) -> None:
        async with batches.lock:
            if not batches.stale and batches.next_deadline() is None:
                return
            await batches.freshen()
            # Pictures recorded before the deadline decide first: they may still belong to the
            # batch. Those recorded later find it overdue, with this close or without.
            now = await self.log.handled_until(ROLE, batches.partition)
            deadline = batches.next_deadline()
            if deadline is None or now < deadline:
                return
            # A change of settings recorded until `now` may have moved the deadline.
            await batches.freshen()
            events = batches.overdue(now)
            if not events:
                return
            # Until the answer is here, it is open whether the log has these events.
            batches.stale = True
            lease.folded = (FOLDED, batches.position)
            positions = await lease.append([_closing(event) for event in events])
            if positions is None:
                return
            batches.stale = False
            for event, position in zip(events, positions, strict=True):
                batches.apply(event)
                batches.position = position
            await batches.save_when_due()


def _closing(event: Event) -> NewEvent:
    """Wrap a close that the clock caused: its batch is the cause."""
    batch_id: str = getattr(event, "batch_id", "")
    return NewEvent(
        id=follow_up_id(batch_id, event.TAG),
        event=event,
        correlation_id=batch_id,
        causation_id="",
        traceparent=traceparent_of(event, ""),
    )
