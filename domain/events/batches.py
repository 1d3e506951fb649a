"""Stream `batches`: how pictures with detections were put together."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Box, Event, Moment

CloseReason = Literal["window", "idle", "full", "late"]


class BatchMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture of a batch with the detections that counted when it joined."""

    picture_id: str
    file_id: str
    uri: str
    captured_at: Moment
    width: int
    height: int
    detections: tuple[Box, ...]


class Baseline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is usual for this camera at this hour of the day, before this batch."""

    days_observed: int = 0
    """Earlier days on which this camera had a batch at all."""
    same_hour: int = 0
    """Of these, the days with the same kind of object within an hour of this time of day."""


class PictureBatched(Event, frozen=True, kw_only=True):
    """A picture with detections joined its camera's open batch (and opened it if it was first)."""

    TAG: ClassVar[str] = "picture.batched"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    member: BatchMember
    detected_at: Moment
    """When the log took in this picture's detections; the batch's deadlines count from it."""
    late: bool = False
    """True when it came too late for the open batch and is a batch of its own."""

    @property
    def occurred_at(self) -> datetime:
        return self.member.captured_at


class BatchEscalated(Event, frozen=True, kw_only=True):
    """A fast-path detection: assess what the open batch holds now, do not wait for its end."""

    TAG: ClassVar[str] = "batch.escalated"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    event_id: str
    started_at: Moment
    ended_at: Moment
    members: tuple[BatchMember, ...]
    trigger: Box
    baseline: Baseline

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class BatchClosed(Event, frozen=True, kw_only=True):
    """A batch is complete: these pictures are one event."""

    TAG: ClassVar[str] = "batch.closed"
    STREAM: ClassVar[str] = "batches"

    batch_id: str
    event_id: str
    started_at: Moment
    ended_at: Moment
    members: tuple[BatchMember, ...]
    reason: CloseReason
    is_fast_path: bool = False
    baseline: Baseline

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at
