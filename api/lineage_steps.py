"""The way of a picture in words: one step an entry of the log; pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from api.lineage_facts import entry_of
from api.lineage_schemas import Step
from domain.detection import counted
from domain.events import (
    ActivityUnverified,
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    Box,
    CapturedFrom,
    CloseReason,
    EntryDiscarded,
    EntryParked,
    EntryRedriven,
    Event,
    EventCaptioned,
    EventNotEnriched,
    EventReviewed,
    FileDuplicated,
    FileRejected,
    ImageReceived,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
    ObjectsDescribed,
    ObjectsDetected,
    ObjectsEmbedded,
    PictureBatched,
    PictureFiltered,
    RiskAssessed,
    VideoReceived,
)
from streams.envelope import Envelope
from streams.names import STREAMS

_TIME_FROM: Final[dict[CapturedFrom, str]] = {
    "exif": "that of its EXIF block",
    "name": "that of its file name",
    "mtime": "its modification time",
    "arrival": "that of its arrival",
}
_CLOSED: Final[dict[CloseReason, str]] = {
    "window": "its window was over",
    "idle": "no further picture came within the idle time",
    "full": "it was full",
    "late": "it came too late for the open batch and is one of its own",
}
_SHOWN_BOXES: Final = 4


def steps_of(picture_id: str, envelopes: Iterable[Envelope]) -> list[Step]:
    """Return what happened to a picture, oldest first."""
    kept = [each for each in envelopes if _concerns(picture_id, each.event)]
    stages = {each.event.stage for each in kept if isinstance(each.event, RiskAssessed)}
    found = []
    for envelope in sorted(kept, key=_order):
        event = envelope.event
        if isinstance(event, AssessmentRefined) and event.stage not in stages:
            continue
        told = _received(event) or _decided(event) or _judged(event) or _added(event)
        if told is not None:
            found.append(
                Step(
                    step=told[0],
                    at=envelope.recorded_at,
                    text=told[1],
                    entry=entry_of(envelope),
                )
            )
    return found


def _order(envelope: Envelope) -> tuple[int, int, int]:
    """Return the order of entries of several streams; within a millisecond, that of the stages."""
    return envelope.position.ms, STREAMS.index(envelope.stream), envelope.position.seq


def _concerns(picture_id: str, event: Event) -> bool:
    match event:
        case BatchEscalated() | BatchClosed():
            return any(member.picture_id == picture_id for member in event.members)
        case RiskAssessed():
            return picture_id in event.picture_ids
        case _:
            return True


_Told = tuple[str, str] | None


def _received(event: Event) -> _Told:
    match event:
        case ImageReceived():
            size = f"{event.size_bytes} bytes, {event.width}×{event.height}"
            source = _TIME_FROM[event.captured_from]
            return "received", f"{event.path} ({size}); the time it was taken is {source}"
        case VideoReceived():
            return "received", f"{event.path} (video, {event.frames} frames taken out)"
        case FileDuplicated():
            return "duplicate", f"{event.path}: the same bytes as {event.duplicate_of}"
        case FileRejected():
            return "rejected", f"{event.path}: {event.detail}"
        case _:
            return None


def _decided(event: Event) -> _Told:
    match event:
        case ObjectsDetected():
            model = f"{event.model} {event.model_version} ({event.engine})"
            return "detected", f"{model} in {event.inference_ms:.0f} ms: {seen(event)}"
        case ActivityUnverified():
            return "told", f"as unverified because the {event.service} was away"
        case PictureFiltered():
            return "filtered", event.reason.replace("_", " ")
        case PictureBatched():
            return "batched", f"joined batch {event.batch_id}"
        case BatchEscalated():
            trigger = f"{event.trigger.label} {event.trigger.score:.2f}"
            return "escalated", f"fast path by {trigger}: assessed at once"
        case BatchClosed():
            members = "1 picture" if len(event.members) == 1 else f"{len(event.members)} pictures"
            return "closed", f"batch of {members}: {_CLOSED[event.reason]}"
        case _:
            return _moved_aside(event)


def _moved_aside(event: Event) -> _Told:
    match event:
        case EntryParked():
            tries = "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"
            return "parked", f"at {event.group} after {tries}: {event.cause}: {event.error}"
        case EntryRedriven():
            return "redriven", f"handed back to {event.group} by {event.actor}"
        case EntryDiscarded():
            return "discarded", f"given up at {event.group} by {event.actor}"
        case _:
            return None


def _judged(event: Event) -> _Told:
    match event:
        case RiskAssessed():
            stage = "the whole batch" if event.stage == "final" else "the open batch"
            return "assessed", f"{event.score} ({event.level}) by the rules, for {stage}"
        case AssessmentRefined():
            answered = f"it answered {event.model_score}, the rules {event.rule_score}"
            return "refined", f"{event.score} ({event.level}) by {event.model}: {answered}"
        case EventReviewed():
            return "reviewed", f"by {event.actor}"
        case _:
            return None


def _added(event: Event) -> _Told:
    return _enriched(event) or _notified(event)


def _notified(event: Event) -> _Told:
    match event:
        case NotificationRequested():
            return "to be told", f"notification {event.notification_id} by {event.channel}"
        case NotificationSent():
            return "notified", f"by {event.channel}: answered {event.status}"
        case NotificationFailed():
            return "not notified", f"by {event.channel}: {event.reason}"
        case _:
            return None


def _enriched(event: Event) -> _Told:
    match event:
        case EventCaptioned():
            return "captioned", f"by {event.model}: {event.caption}"
        case ObjectsEmbedded():
            return "embedded", f"{len(event.sightings)} sightings by {event.model}"
        case ObjectsDescribed():
            return "described", f"{len(event.objects)} objects by {event.model}"
        case EventNotEnriched():
            return "not enriched", f"by {event.service}: {event.why}"
        case _:
            return None


def seen(event: ObjectsDetected) -> str:
    """Return what counted and what did not, like `person 0.91, cat 0.62; 3 below 0.50`."""
    boxes = counted(event)
    below = len(event.boxes) - len(boxes)
    parts = [_listed(boxes)] if boxes else []
    if below:
        best = "" if boxes else f", the best {_listed(event.boxes[:1])}"
        parts.append(f"{below} below {event.threshold:.2f}{best}")
    return "; ".join(parts) or "nothing at all"


def _listed(boxes: Sequence[Box]) -> str:
    shown = [f"{box.label} {box.score:.2f}" for box in boxes[:_SHOWN_BOXES]]
    more = len(boxes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
