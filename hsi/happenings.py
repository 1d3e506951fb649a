"""The log in words: what an event means to a person who watches it happen."""

from collections import Counter
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from domain import events
from domain.events import Box, Level
from domain.names import counted
from streams.envelope import Envelope

FOLLOWED: Final = ("files", "detections", "batches", "assessments", "cameras", "system", "parked")


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of what happens."""

    time: str
    camera: str
    step: str
    text: str
    level: Level | None = None
    trouble: bool = False


def describe(envelope: Envelope, zone: tzinfo) -> Happening | None:
    """Return the line for an event; None for what nobody wants to watch."""
    event = envelope.event
    told = _file(event) or _model(event) or _assessment(event) or _service(event)
    if told is None:
        return None
    step, text, level, trouble = told
    return Happening(
        time=envelope.recorded_at.astimezone(zone).strftime("%H:%M:%S"),
        camera=visible(event.camera_id),
        step=step,
        text=visible(text),
        level=level,
        trouble=trouble,
    )


Told = tuple[str, str, Level | None, bool]


def _file(event: events.Event) -> Told | None:
    match event:
        case events.ImageReceived():
            return "picture", f"{event.path}  {event.width}×{event.height}", None, False
        case events.VideoReceived():
            text = f"{event.path}  {event.duration_seconds:.0f} s, {event.frames} pictures"
            return "video", text, None, False
        case events.FileDuplicated():
            return "duplicate", f"{event.path}  same bytes as before", None, False
        case events.FileRejected():
            return "rejected", f"{event.path}  {event.detail}", None, True
        case events.CameraRegistered():
            return "camera", f"{event.name} is known from now on ({event.source})", None, False
        case _:
            return None


def _model(event: events.Event) -> Told | None:
    match event:
        case events.ObjectsDetected():
            return "objects", boxes(event), None, False
        case events.PictureFiltered():
            return "filtered", "not looked at: the camera is disabled", None, False
        case events.BatchEscalated():
            text = f"fast path: {event.trigger.label} {event.trigger.score:.2f}"
            return "batch", text, None, False
        case events.BatchClosed():
            text = f"closed with {counted('picture', len(event.members))} ({event.reason})"
            return "batch", text, None, False
        case _:
            return None


def _assessment(event: events.Event) -> Told | None:
    match event:
        case events.RiskAssessed():
            return "risk", f"{event.score} {event.level}  {event.summary}", event.level, False
        case events.AssessmentRefined():
            text = f"{event.score} {event.level}  {event.summary}"
            return "model", text, event.level, False
        case events.ActivityUnverified():
            return "unverified", f"nobody can look: the {event.service} is away", None, True
        case events.EventReviewed():
            return "review", f"event {event.event_id} by {event.actor}", None, False
        case _:
            return None


def _service(event: events.Event) -> Told | None:
    match event:
        case events.ServiceStateChanged(process=None):
            text = f"{event.service} is {event.status}: {event.message}"
            return "service", text, None, event.status != "healthy"
        case events.EntryParked():
            text = f"{event.event_tag} after {event.attempts} attempts: {event.error}"
            return "parked", text, None, True
        case _:
            return None


def boxes(event: events.ObjectsDetected) -> str:
    """Return the objects that count, like `2 person 0.93, car 0.71`."""
    sure = [box for box in event.boxes if box.score >= event.threshold]
    if not sure:
        return "nothing"
    best: dict[str, Box] = {}
    for box in sure:
        if box.label not in best or box.score > best[box.label].score:
            best[box.label] = box
    numbers = Counter(box.label for box in sure)
    return ", ".join(
        f"{numbers[label]} {label} {box.score:.2f}"
        if numbers[label] > 1
        else f"{label} {box.score:.2f}"
        for label, box in best.items()
    )


def visible(text: str) -> str:
    """Return the text on one line without anything that could steer a terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
