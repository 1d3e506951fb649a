"""The log as traces: every entry of a picture's way is a span, its times those of the events.

The first span of a trace stands for the file and has the id that `traceparent` names; every other
one has an id that follows from its envelope's id, and the span of its cause as its parent. So the
spans need no state, and whoever makes them anew makes the same ones. The one exception is how
long a batch was open: that is known only to who has read when it was opened.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.events import (
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    CandidateCompared,
    EntryParked,
    Event,
    FileRejected,
    ImageReceived,
    ObjectsDetected,
    PictureBatched,
    PromptCompared,
    RiskAssessed,
    VideoReceived,
)
from domain.ids import follow_up_id
from domain.spans import Attribute, Span
from domain.stages import stage_of
from domain.trace import span_id_of, trace_id_of
from streams.envelope import Envelope
from streams.names import STREAMS

TRACED: Final = tuple(name for name in STREAMS if name not in ("cameras", "system"))
"""Streams of what happens to pictures."""

READER: Final = "traces"
"""Name of the bookmark of who sends them."""

NAMES: Final = {
    "image.received": "file seen",
    "video.received": "file seen",
    "file.duplicated": "file seen",
    "file.rejected": "file seen",
    "objects.detected": "detect",
    "picture.filtered": "filter",
    "picture.batched": "join batch",
    "batch.escalated": "escalate batch",
    "batch.closed": "batch",
    "risk.assessed": "assess",
    "assessment.refined": "refine",
    "entry.parked": "park",
}
"""Event type → name of its span; any other span is named by its event type."""

LONGEST_LOOK_BACK_MS: Final = 3_600_000
"""A file whose camera says that it is older than this was not just taken: it was found."""

MOST_LINKS: Final = 32
REMEMBERED_BATCHES: Final = 10_000


@dataclass(slots=True)
class OpenBatches:
    """When each batch was opened, as far as it was read."""

    _opened: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def hear(self, event: PictureBatched) -> None:
        """Keep when the first picture of a batch was detected."""
        self._opened.setdefault(event.batch_id, _ms(event.detected_at))
        if len(self._opened) > REMEMBERED_BATCHES:
            self._opened.popitem(last=False)

    def opened_ms(self, batch_id: str) -> int:
        """Return when a batch was opened, 0 when nobody was there to see it."""
        return self._opened.get(batch_id, 0)


def spans_of(envelopes: Iterable[Envelope], batches: OpenBatches) -> list[Span]:
    """Return the spans that entries stand for; what belongs to no trace has none."""
    spans = []
    for envelope in envelopes:
        if isinstance(envelope.event, PictureBatched):
            batches.hear(envelope.event)
        # An entry that a redrive appended anew was told when it first came.
        if envelope.traceparent and not envelope.only_for:
            spans += _span_of(envelope, batches)
    return spans


def step_span(
    envelope: Envelope, name: str, end_ns: int, facts: Mapping[str, Attribute]
) -> Span | None:
    """Return the span of what a process did with an entry after it was recorded.

    `facts` name the process, as service.instance.id: several may do the same.
    """
    place = _place(envelope)
    if place is None:
        return None
    instance = facts.get("service.instance.id", "")
    return Span(
        name=name,
        trace_id=place.trace_id,
        span_id=span_id_of(f"{envelope.id} {name} {instance}"),
        parent_id=place.span_id,
        start_ns=min(_ns(envelope.position.ms), end_ns),
        end_ns=end_ns,
        attributes=_attributes(envelope) | dict(facts),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an entry stands in its trace."""

    trace_id: str
    span_id: str
    parent_id: str


def _place(envelope: Envelope) -> _Place | None:
    parts = envelope.traceparent.split("-")
    if len(parts) != 4:
        return None
    trace_id, root = parts[1], parts[2]
    if _is_first(envelope):
        return _Place(trace_id, root, "")
    event, cause = envelope.event, envelope.causation_id
    # What makes a batch lies in the trace of its first picture, whatever picture brought it about.
    at_root = not cause or isinstance(event, BatchClosed | BatchEscalated) or _of_file(envelope)
    return _Place(trace_id, span_id_of(envelope.id), root if at_root else span_id_of(cause))


def _is_first(envelope: Envelope) -> bool:
    """Say whether an entry stands for a file itself; a video's frames follow from the video."""
    return envelope.stream == "files" and not envelope.causation_id


def _of_file(envelope: Envelope) -> bool:
    """Say whether a cause is the entry by which a file's only picture was taken in."""
    # What follows from a file keeps its id as the correlation; what joins a batch, in the event.
    file_ids = (getattr(envelope.event, "file_id", None), envelope.correlation_id)
    causes = (follow_up_id(str(each), ImageReceived.TAG) for each in file_ids if each)
    return envelope.causation_id in causes


def _span_of(envelope: Envelope, batches: OpenBatches) -> list[Span]:
    place = _place(envelope)
    if place is None:
        return []
    event, end = envelope.event, envelope.position.ms
    start = _start_ms(envelope, batches)
    return [
        Span(
            name=NAMES.get(event.TAG, event.TAG),
            trace_id=place.trace_id,
            span_id=place.span_id,
            parent_id=place.parent_id,
            start_ns=_ns(start if 0 < start <= end else end),
            end_ns=_ns(end),
            attributes=_attributes(envelope),
            links=_links(event, place.trace_id),
            error=_error(event),
        )
    ]


def _start_ms(envelope: Envelope, batches: OpenBatches) -> int:
    """Return when a step began, 0 when nobody knows."""
    event, end = envelope.event, envelope.position.ms
    if isinstance(event, ImageReceived | VideoReceived) and not envelope.causation_id:
        taken = _ms(event.captured_at)
        return taken if end - taken <= LONGEST_LOOK_BACK_MS else 0
    if isinstance(event, BatchClosed):
        return batches.opened_ms(event.batch_id) or envelope.caused_ms
    return envelope.caused_ms


def _links(event: Event, trace_id: str) -> tuple[tuple[str, str], ...]:
    """Return the files that a batch puts together besides the one whose trace it is in."""
    if not isinstance(event, BatchClosed | BatchEscalated):
        return ()
    files = dict.fromkeys(member.file_id for member in event.members[:MOST_LINKS])
    found = ((trace_id_of(file_id), span_id_of(file_id)) for file_id in files)
    return tuple(link for link in found if link[0] != trace_id)


def _error(event: Event) -> str:
    match event:
        case EntryParked():
            return f"{event.cause}: {event.error}"[:500]
        case FileRejected():
            return f"{event.reason}: {event.detail}"[:500]
        case CandidateCompared() | PromptCompared() if event.error:
            return event.error[:500]
    return ""


_IDS: Final = ("picture_id", "file_id", "batch_id", "event_id")


def _attributes(envelope: Envelope) -> dict[str, Attribute]:
    event = envelope.event
    found: dict[str, Attribute] = {
        "hsi.stage": stage_of(event.TAG),
        "hsi.event_type": event.TAG,
        "hsi.camera_id": event.camera_id,
        "hsi.entry": f"{envelope.stream}/{envelope.partition}/{envelope.position}",
        "hsi.correlation_id": envelope.correlation_id,
    }
    if envelope.causation_id:
        found["hsi.causation_id"] = envelope.causation_id
    for name in _IDS:
        if isinstance(value := getattr(event, name, None), str) and value:
            found[f"hsi.{name}"] = value
    return found | _facts(event)


def _facts(event: Event) -> dict[str, Attribute]:
    """Return what is worth knowing about a step of this kind."""
    match event:
        case ImageReceived() | VideoReceived():
            return {"hsi.captured_at": event.captured_at.isoformat()}
        case ObjectsDetected():
            return {
                "hsi.model": event.model,
                "hsi.model_version": event.model_version,
                "hsi.inference_ms": event.inference_ms,
                "hsi.boxes": len(event.boxes),
            }
        case BatchClosed():
            return {"hsi.close_reason": event.reason, "hsi.pictures": len(event.members)}
        case RiskAssessed():
            return {"hsi.score": event.score, "hsi.level": event.level}
        case AssessmentRefined():
            return {
                "hsi.score": event.score,
                "hsi.level": event.level,
                "hsi.model": event.model,
                "hsi.tokens_in": event.tokens_in,
                "hsi.tokens_out": event.tokens_out,
            }
        case EntryParked():
            return {"hsi.group": event.group, "hsi.attempts": event.attempts}
    return {}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _ns(ms: int) -> int:
    return ms * 1_000_000
