"""Where a picture or file stopped, and why, in words; pure.

`because` completes "Nothing was sent about this picture because …".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from api.lineage_facts import assessment_facts
from api.lineage_schemas import Ending, FileFact, Telling
from domain.events import (
    BatchClosed,
    EntryDiscarded,
    EntryParked,
    ObjectsDetected,
    PictureFiltered,
)
from projections.rows import FileRow, PictureRow, ServiceStateRow
from streams.envelope import Envelope
from streams.log import GroupBacklog

_SERVICE: Final = {"detect": "detector"}
"""Stage → the service that it cannot work without; the rules need none."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the stages wait for now; only asked for when something is pending."""

    services: Mapping[str, ServiceStateRow] = field(default_factory=dict)
    backlog: Mapping[str, GroupBacklog] = field(default_factory=dict)


def picture_ending(
    picture: PictureRow,
    own: Sequence[Envelope],
    of_event: Sequence[Envelope],
    waiting: Waiting,
) -> Ending:
    """Return where a picture stopped; `own` are the entries about it, oldest first."""
    match picture.state:
        case "assessed":
            return _assessed(picture, of_event)
        case "filtered":
            return _filtered(picture, [*own, *of_event])
        case "parked":
            return _parked(picture, [*own, *of_event])
        case _:
            return _pending(picture, of_event, waiting)


def _assessed(picture: PictureRow, of_event: Sequence[Envelope]) -> Ending:
    told = assessment_facts(of_event)
    because = f"it became event {picture.event_id}"
    if told:
        verdict = told[0].refinement or told[0]
        because += f": risk {verdict.score} of 100 ({verdict.level}), {verdict.summary}"
    return Ending(state="assessed", because=because, event_id=picture.event_id)


def _filtered(picture: PictureRow, own: Sequence[Envelope]) -> Ending:
    discards = [each.event for each in own if isinstance(each.event, EntryDiscarded)]
    if discards and picture.reason.startswith("discarded"):
        because = f"{discards[-1].actor} gave it up after it had been moved aside"
        return Ending(state="filtered", because=because, cause=discards[-1].cause)
    for envelope in own:
        match envelope.event:
            case PictureFiltered(reason="camera_disabled"):
                because = f"its camera {picture.camera_id} was switched off when it came"
                return Ending(state="filtered", because=because)
            case PictureFiltered() as event:
                return Ending(state="filtered", because=event.reason.replace("_", " "))
            case ObjectsDetected() as detected:
                return _below(detected)
            case _:
                continue
    return Ending(state="filtered", because=picture.reason)


def _below(detected: ObjectsDetected) -> Ending:
    if not detected.boxes:
        because = f"{detected.model} saw nothing in it, not even faintly"
        return Ending(state="filtered", because=because, threshold=detected.threshold)
    best = max(detected.boxes, key=lambda box: box.score)
    because = (
        f"nothing in it reached the threshold: the best was {best.label} at {best.score:.2f}, "
        f"{detected.threshold:.2f} is needed"
    )
    return Ending(
        state="filtered",
        because=because,
        highest_label=best.label,
        highest_score=best.score,
        threshold=detected.threshold,
    )


def _parked(picture: PictureRow, envelopes: Sequence[Envelope]) -> Ending:
    told = [
        (e.event, f"{e.partition}-{e.position}")
        for e in envelopes
        if isinstance(e.event, EntryParked) and e.event.group == picture.parked_group
    ]
    because = (
        f"it was moved aside at the stage {picture.parked_group}: "
        f"{picture.parked_cause}: {picture.parked_error}"
    )
    return Ending(
        state="parked",
        because=because,
        stage=picture.parked_group,
        since=picture.parked_at,
        cause=picture.parked_cause,
        error=picture.parked_error,
        attempts=told[-1][0].attempts if told else None,
        to_do=_to_do(told[-1][1]) if told else None,
    )


def _to_do(entry: str) -> str:
    return (
        f"Look at it with `hsi dlq show {entry}` and remove the cause, then "
        f"`hsi dlq redrive --id {entry}`; `hsi dlq discard all --id {entry}` gives it up."
    )


def _pending(picture: PictureRow, of_event: Sequence[Envelope], waiting: Waiting) -> Ending:
    stage, since = picture.reason, picture.received_at
    waits = _waits_for(stage, waiting)
    if stage != "detect":
        since = picture.detected_at or since
    if stage == "assess":
        closes = [e for e in of_event if isinstance(e.event, BatchClosed)]
        if closes:
            since = closes[0].recorded_at
        else:
            waits = "its batch to close, which more pictures may still join"
    return _waiting(stage, since, waits)


def _waiting(stage: str, since: datetime, waits: str) -> Ending:
    return Ending(
        state="pending",
        because=f"it waits for {waits} (stage {stage}, since {since:%Y-%m-%d %H:%M:%S} UTC)",
        stage=stage,
        since=since,
        waits_for=waits,
    )


def _waits_for(stage: str, waiting: Waiting) -> str:
    service = waiting.services.get(_SERVICE.get(stage, ""))
    if service is not None and service.status != "healthy":
        since = f"{service.changed_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"the {service.service}, which is {service.status} since {since}: {service.message}"
    backlog = waiting.backlog.get(stage)
    if backlog is None:
        return f"the stage {stage}"
    entries = backlog.lag + backlog.pending
    return f"the stage {stage}, which has {entries} entries to do"


def file_ending(
    file: FileRow, endings: Sequence[Ending], original: FileRow | None, waiting: Waiting
) -> Ending:
    """Return where a file stopped: its own reason, or that of its least finished picture."""
    if file.state == "rejected":
        because = f"the file was rejected ({file.rejected_reason}): {file.rejected_detail}"
        return Ending(state="rejected", because=because, cause=file.rejected_reason)
    if file.state == "duplicate":
        return _duplicate(file, original)
    for ending in endings:
        if ending.state == file.state:
            return ending
    if file.state == "pending":
        return _waiting("detect", file.received_at, _waits_for("detect", waiting))
    return Ending(state=file.state, because=file.reason)


def _duplicate(file: FileRow, original: FileRow | None) -> Ending:
    first = f"file {file.duplicate_of}"
    if original is not None:
        first = f"{original.path} ({original.file_id}), which is {original.state}"
    because = f"the same bytes had come from this camera shortly before as {first}"
    return Ending(state="duplicate", because=because, duplicate_of=file.duplicate_of)


def conclusion_of(file: FileFact, ending: Ending, told: Telling | None = None) -> str:
    """Return the one sentence that a person wants first; two when it was told unverified."""
    if told is None:
        return _conclusion(file, ending, "Nothing")
    at = f"{told.told_at:%Y-%m-%d %H:%M:%S} UTC"
    first = f"Told as unverified at {at} because the {told.service} was away."
    return f"{first} {_conclusion(file, ending, 'Nothing more')}"


def _conclusion(file: FileFact, ending: Ending, nothing: str) -> str:
    thing = {"image": "picture", "video": "video"}.get(file.media or "", "file")
    because = ending.because.rstrip(".")
    if ending.state == "assessed":
        became = because.removeprefix("it ")
        return f"This {thing} {became}."
    if ending.state == "pending":
        return f"{nothing} has been sent about this {thing} yet because {because}."
    return f"{nothing} was sent about this {thing} because {because}."
