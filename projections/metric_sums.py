"""What a run of entries adds to the metrics: sums, and the newest example of each bucket."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from domain.durations import bucket_of
from domain.events import (
    AssessmentRefined,
    BatchClosed,
    EntryDiscarded,
    EntryParked,
    EntryRedriven,
    Event,
    ImageReceived,
    PictureBatched,
    RiskAssessed,
    SceneChanged,
    VideoReceived,
)
from domain.stages import stage_of
from domain.trace import trace_id
from streams.envelope import Envelope

TIMED: Final = ("detect", "assess", "refine", "enrich", "trial")
"""Stages whose steps last from the entry that they were given to the one that they appended."""


class CounterRow(msgspec.Struct, frozen=True):
    """What is added to one counter."""

    family: str
    label: str
    value: int


class DurationRow(msgspec.Struct):
    """What is added to one bucket of a stage, and its newest example."""

    stage: str
    bucket: int
    entries: int = 0
    total_ms: int = 0
    example_ms: int = 0
    example_trace: str = ""
    example_at: int = -1

    def add(self, ms: int, envelope: Envelope) -> None:
        """Count one more."""
        self.entries += 1
        self.total_ms += ms
        example = (envelope.position.ms, trace_id(envelope.traceparent), ms)
        if example > (self.example_at, self.example_trace, self.example_ms):
            self.example_at, self.example_trace, self.example_ms = example


class ModelRow(msgspec.Struct):
    """What is added to the use of one model, and its newest question."""

    model: str
    questions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    total_ms: int = 0
    shortened: int = 0
    newest_tokens: int = 0
    newest_window: int | None = None
    newest_at: int = -1
    newest_id: str = ""

    def add(self, event: AssessmentRefined, envelope: Envelope) -> None:
        """Count one more question."""
        self.questions += 1
        self.tokens_in += event.tokens_in
        self.tokens_out += event.tokens_out
        self.tokens_cached += event.tokens_cached or 0
        self.total_ms += round(event.seconds * 1000)
        self.shortened += bool(event.left_out)
        at = (envelope.position.ms, envelope.id)
        if at > (self.newest_at, self.newest_id):
            self.newest_at, self.newest_id = at
            self.newest_tokens, self.newest_window = event.tokens_in, event.context_window


@dataclass(slots=True)
class Sums:
    """What a run adds."""

    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: dict[tuple[str, int], DurationRow] = field(default_factory=dict)
    models: dict[str, ModelRow] = field(default_factory=dict)

    def add(self, envelopes: Iterable[Envelope], opened: Mapping[str, int]) -> None:
        """Count entries; `opened` says when the batches among them were opened."""
        for envelope in envelopes:
            event = envelope.event
            self.counters["entries", event.TAG] += 1
            for counter in counters_of(event):
                self.counters[counter] += 1
            if isinstance(event, AssessmentRefined):
                row = self.models.setdefault(event.model, ModelRow(event.model))
                row.add(event, envelope)
            stage, began = _began(envelope, opened)
            if 0 < began <= envelope.position.ms:
                self._timed(stage, envelope.position.ms - began, envelope)

    def _timed(self, stage: str, ms: int, envelope: Envelope) -> None:
        key = (stage, bucket_of(ms))
        self.durations.setdefault(key, DurationRow(*key)).add(ms, envelope)

    def counter_rows(self) -> list[CounterRow]:
        """Return the counters as rows."""
        return [CounterRow(*key, value) for key, value in sorted(self.counters.items())]


def counters_of(event: Event) -> list[tuple[str, str]]:
    """Return the counters besides that of its type that an event adds one to."""
    match event:
        case EntryParked():
            return [("parked", event.group)]
        case EntryRedriven():
            return [("redriven", event.group)]
        case EntryDiscarded():
            return [("discarded", event.group)]
        case BatchClosed():
            return [("closed", event.reason)]
        case RiskAssessed(stage="final"):
            return [("assessed", event.level)]
        case SceneChanged():
            return [("scene_changed", event.change_type)]
    return []


def opened_in(envelopes: Iterable[Envelope]) -> tuple[dict[str, int], dict[str, int]]:
    """Return when the batches of a run were opened: those that closed in it, those still open.

    By their first picture here; 0 for one that closed and whose pictures all came before the run.
    """
    closed: dict[str, int] = {}
    still: dict[str, int] = {}
    for envelope in envelopes:
        match envelope.event:
            case PictureBatched() as joined:
                still.setdefault(joined.batch_id, _ms(joined.detected_at))
            case BatchClosed() as batch:
                closed[batch.batch_id] = still.pop(batch.batch_id, 0)
    return closed, still


def _began(envelope: Envelope, opened: Mapping[str, int]) -> tuple[str, int]:
    """Return which stage's step an entry ends and when that began, 0 when nobody knows."""
    event = envelope.event
    match event:
        case ImageReceived() | VideoReceived():
            return "watch", 0 if envelope.causation_id else _ms(event.captured_at)
        case BatchClosed():
            return "batch", opened.get(event.batch_id, 0)
    stage = stage_of(event.TAG)
    return stage, envelope.caused_ms if stage in TIMED else 0


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
