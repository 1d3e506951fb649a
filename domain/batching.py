"""Batching: which pictures of one camera are one event. Pure; every time is an argument.

The rules, all on event time unless said otherwise:

1. A picture with detections joins its camera's open batch, or opens one.
2. The batch closes before a picture that comes more than the idle gap after its last one
   (`idle`), that would stretch it to the window or beyond (`window`), or when it is full (`full`).
3. A picture that comes late joins the open batch if it lies no more than the idle gap before it
   and the batch stays shorter than the window; else it is a batch of its own, closed at once
   (`late`).
4. The log's own clock closes what no further picture closes: the idle gap after the last picture
   was detected, or the window after the first, whichever ends first, plus a grace. A picture
   whose detection was recorded after that moment finds the batch closed, whether or not a timer
   came first (hence this rule is asked before all others); so a replay of the log makes the same
   batches, for the same reasons, without any timer.
5. The first fast-path detection of a batch escalates it: what it holds is assessed at once, and
   the batch goes on.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from domain import ids
from domain.detection import counted
from domain.events import (
    Baseline,
    BatchClosed,
    BatchEscalated,
    BatchMember,
    Box,
    CloseReason,
    Event,
    ObjectsDetected,
    PictureBatched,
)

GRACE = timedelta(seconds=1)
"""Added to the log-clock deadlines, for the time a picture takes from camera to log."""

MOST_MEMBERS = 500
"""A batch with so many pictures is closed as `full`, so that no event grows without bound."""


class BatchPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decide batches."""

    window: timedelta
    idle: timedelta
    fast_path_labels: frozenset[str]
    fast_path_score: float
    zone: ZoneInfo
    """Time zone of the cameras: what hour of the day it is for the baseline."""


class HourDays(msgspec.Struct, frozen=True, array_like=True):
    """On how many days there was something in one hour of the day, and the last such day."""

    days: int = 0
    last: int = 0
    """Proleptic ordinal of the day; an earlier day that is told later does not count again."""

    def with_day(self, day: int) -> "HourDays":
        """Return this with one more day, if the day is a new one."""
        return HourDays(self.days + 1, day) if day > self.last else self

    def before(self, day: int) -> int:
        """Return the days before `day`."""
        return self.days - 1 if self.last >= day else self.days


_NO_DAYS = (HourDays(),) * 24


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """On which days this camera had batches, in all and by main label and local hour.

    Days are counted, not batches, and only those that had one: neither a busy hour nor a picture
    with a wrong date makes a habit.
    """

    all: HourDays = HourDays()
    hours: dict[str, tuple[HourDays, ...]] = {}

    def baseline(self, label: str, local: datetime) -> Baseline:
        """Return what is usual at this local time, the hours beside it included."""
        day = local.toordinal()
        hours = self.hours.get(label, _NO_DAYS)
        near = max(hours[(local.hour + step) % 24].before(day) for step in (-1, 0, 1))
        return Baseline(days_observed=max(self.all.before(day), 0), same_hour=max(near, 0))

    def with_batch(self, label: str, local: datetime) -> "Usual":
        """Return this with one more batch."""
        day = local.toordinal()
        hours = list(self.hours.get(label, _NO_DAYS))
        hours[local.hour] = hours[local.hour].with_day(day)
        return Usual(all=self.all.with_day(day), hours={**self.hours, label: tuple(hours)})


class OpenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that more pictures may join."""

    batch_id: str
    members: tuple[BatchMember, ...]
    started_at: datetime
    ended_at: datetime
    first_detected_at: datetime
    last_detected_at: datetime
    escalated: bool = False


class CameraBatches(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's state: its open batch, and what is usual."""

    open: OpenBatch | None = None
    usual: Usual = Usual()


def decide(
    state: CameraBatches, policy: BatchPolicy, detected: ObjectsDetected, detected_at: datetime
) -> tuple[Event, ...]:
    """Return what one picture's detections lead to; nothing when none of them counts.

    `detected_at` is when the log took the detections in.
    """
    boxes = counted(detected)
    if not boxes:
        return ()
    member = BatchMember(
        picture_id=detected.picture_id,
        file_id=detected.file_id,
        uri=detected.uri,
        captured_at=detected.captured_at,
        width=detected.width,
        height=detected.height,
        detections=boxes,
    )
    joined = PictureBatched(
        camera_id=detected.camera_id,
        batch_id=ids.batch_id(detected.camera_id, detected.picture_id),
        member=member,
        detected_at=detected_at,
    )
    if state.open is None:
        return _joined(state, policy, joined)
    reason = _overdue(state.open, policy, detected_at)
    if reason is None:
        if _is_late(state.open, policy, detected.captured_at):
            return _alone(state, policy, joined)
        reason = _closes_before(state.open, policy, detected.captured_at)
    if reason is None:
        same = msgspec.structs.replace(joined, batch_id=state.open.batch_id)
        return _joined(state, policy, same)
    closed = _closed(state, policy, joined.camera_id, reason)
    after = state
    for event in closed:
        after = evolve(after, policy, event)
    return *closed, *_joined(after, policy, joined)


def expire(
    state: CameraBatches, policy: BatchPolicy, camera_id: str, now: datetime
) -> tuple[Event, ...]:
    """Return the close of a batch whose log-clock deadline has passed at `now`, if it has."""
    if state.open is None:
        return ()
    reason = _overdue(state.open, policy, now)
    return _closed(state, policy, camera_id, reason) if reason else ()


def next_deadline(state: CameraBatches, policy: BatchPolicy) -> datetime | None:
    """Return when `expire` would close the open batch, None when there is none."""
    if state.open is None:
        return None
    return _deadline(state.open, policy)[0]


def evolve(state: CameraBatches, policy: BatchPolicy, event: Event) -> CameraBatches:
    """Return the state after one event of the `batches` stream."""
    match event:
        case PictureBatched(late=False):
            return msgspec.structs.replace(state, open=_with_member(state.open, event))
        case BatchEscalated() if state.open and state.open.batch_id == event.batch_id:
            escalated = msgspec.structs.replace(state.open, escalated=True)
            return msgspec.structs.replace(state, open=escalated)
        case BatchClosed():
            local = event.started_at.astimezone(policy.zone)
            usual = state.usual.with_batch(main_label(event.members), local)
            still = state.open if state.open and state.open.batch_id != event.batch_id else None
            return CameraBatches(open=still, usual=usual)
    return state


def main_label(members: tuple[BatchMember, ...]) -> str:
    """Return the label a batch is about: person before all else, else the most frequent one."""
    counts: dict[str, int] = {}
    for member in members:
        for box in member.detections:
            counts[box.label] = counts.get(box.label, 0) + 1
    if "person" in counts:
        return "person"
    return max(sorted(counts), key=counts.__getitem__)


def _joined(
    state: CameraBatches, policy: BatchPolicy, joined: PictureBatched
) -> tuple[Event, ...]:
    """Return the join, and the escalation if this is the batch's first fast-path picture."""
    trigger = _trigger(joined.member.detections, policy)
    after = evolve(state, policy, joined)
    batch = after.open
    if trigger is None or batch is None or batch.escalated:
        return (joined,)
    return joined, BatchEscalated(
        camera_id=joined.camera_id,
        batch_id=batch.batch_id,
        event_id=ids.event_id(batch.batch_id),
        started_at=batch.started_at,
        ended_at=batch.ended_at,
        members=batch.members,
        trigger=trigger,
        baseline=_baseline(after, policy),
    )


def _alone(state: CameraBatches, policy: BatchPolicy, joined: PictureBatched) -> tuple[Event, ...]:
    """Return a late picture as a batch of its own; the open batch stays as it is."""
    fast = _trigger(joined.member.detections, policy) is not None
    own = msgspec.structs.replace(_with_member(None, joined), escalated=fast)
    alone = msgspec.structs.replace(state, open=own)
    late = msgspec.structs.replace(joined, late=True)
    return late, *_closed(alone, policy, joined.camera_id, "late")


def _closed(
    state: CameraBatches, policy: BatchPolicy, camera_id: str, reason: CloseReason
) -> tuple[Event, ...]:
    batch = state.open
    if batch is None:
        return ()
    return (
        BatchClosed(
            camera_id=camera_id,
            batch_id=batch.batch_id,
            event_id=ids.event_id(batch.batch_id),
            started_at=batch.started_at,
            ended_at=batch.ended_at,
            members=batch.members,
            reason=reason,
            is_fast_path=batch.escalated,
            baseline=_baseline(state, policy),
        ),
    )


def _baseline(state: CameraBatches, policy: BatchPolicy) -> Baseline:
    if state.open is None:
        return Baseline()
    local = state.open.started_at.astimezone(policy.zone)
    return state.usual.baseline(main_label(state.open.members), local)


def _trigger(boxes: tuple[Box, ...], policy: BatchPolicy) -> Box | None:
    """Return the surest detection that takes the fast path, None when none does."""
    fast = [
        box
        for box in boxes
        if box.label in policy.fast_path_labels and box.score >= policy.fast_path_score
    ]
    return max(fast, key=lambda box: box.score, default=None)


def _is_late(batch: OpenBatch, policy: BatchPolicy, captured_at: datetime) -> bool:
    if captured_at >= batch.started_at:
        return False
    too_early = captured_at < batch.started_at - policy.idle
    return too_early or batch.ended_at - captured_at >= policy.window


def _closes_before(
    batch: OpenBatch, policy: BatchPolicy, captured_at: datetime
) -> CloseReason | None:
    if captured_at > batch.ended_at + policy.idle:
        return "idle"
    if captured_at - batch.started_at >= policy.window:
        return "window"
    if len(batch.members) >= MOST_MEMBERS:
        return "full"
    return None


def _deadline(batch: OpenBatch, policy: BatchPolicy) -> tuple[datetime, CloseReason]:
    """Return when the log's clock closes the batch, and why."""
    idle = batch.last_detected_at + policy.idle + GRACE
    window = batch.first_detected_at + policy.window + GRACE
    return (idle, "idle") if idle <= window else (window, "window")


def _overdue(batch: OpenBatch, policy: BatchPolicy, now: datetime) -> CloseReason | None:
    deadline, reason = _deadline(batch, policy)
    return reason if now >= deadline else None


def _with_member(batch: OpenBatch | None, joined: PictureBatched) -> OpenBatch:
    member = joined.member
    if batch is None or batch.batch_id != joined.batch_id:
        return OpenBatch(
            batch_id=joined.batch_id,
            members=(member,),
            started_at=member.captured_at,
            ended_at=member.captured_at,
            first_detected_at=joined.detected_at,
            last_detected_at=joined.detected_at,
        )
    return msgspec.structs.replace(
        batch,
        members=(*batch.members, member),
        started_at=min(batch.started_at, member.captured_at),
        ended_at=max(batch.ended_at, member.captured_at),
        last_detected_at=max(batch.last_detected_at, joined.detected_at),
    )
