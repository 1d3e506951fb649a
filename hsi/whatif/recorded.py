"""The one side of the comparison: the events that the log really holds, and where to begin."""

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from domain.batching import Usual, main_label
from domain.events import (
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    Level,
    Moment,
    PictureBatched,
    RiskAssessed,
)
from domain.ids import event_id
from domain.whatif import EventOutcome, Evidence, digest, outcome_of
from streams.envelope import Envelope


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a replay is about: those that began in [begin, end) on these cameras."""

    begin: Moment
    end: Moment
    cameras: frozenset[str] | None = None
    """None: all cameras."""

    def sees(self, camera_id: str) -> bool:
        """Say whether a camera belongs to it."""
        return self.cameras is None or camera_id in self.cameras

    def holds(self, moment: datetime) -> bool:
        """Say whether an event that began then belongs to it."""
        return self.begin <= moment < self.end


class Cut(msgspec.Struct, kw_only=True):
    """Where one camera's replay begins: at the first picture in the span that opened a batch."""

    usual: Usual = Usual()
    """What was usual at that moment."""
    after: Moment | None = None
    """When the last picture that joined an earlier batch was detected."""
    first_picture: str = ""
    first_at: Moment | None = None


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was still open, or not assessed yet, where the log ended."""

    event_id: str
    picture_ids: tuple[str, ...]


class Refined(msgspec.Struct, frozen=True, kw_only=True):
    """What the language model made of an event."""

    event_id: str
    score: int
    level: Level
    summary: str
    canary: bool = False
    """True when a candidate on trial said so, not the prompt in service."""


class RecordedSummary(msgspec.Struct, kw_only=True):
    """What the pass over the log's own events leaves behind beside the events themselves."""

    cuts: dict[str, Cut]
    unfinished: list[Unfinished]
    last_detected_at: Moment | None = None
    """When the last picture that was batched had been detected."""
    events: int = 0
    rules: set[str] = set()
    """Versions of the rules that assessed them."""
    prompts: set[str] = set()
    """Versions of the prompts in service that the language model had answered."""


class _Parts(msgspec.Struct, kw_only=True):
    """What came so far of one event."""

    closed: BatchClosed | None = None
    assessed: RiskAssessed | None = None
    escalated: str = ""
    fast_assessed: str = ""

    def outcome(self) -> EventOutcome | None:
        """Return the event once nothing of it is missing."""
        if self.closed is None or self.assessed is None:
            return None
        if self.escalated and not self.fast_assessed:
            return None
        evidence = Evidence(
            digest(self.closed), digest(self.assessed), self.escalated, self.fast_assessed
        )
        return outcome_of(self.closed, self.assessed, evidence)


class Recorded:
    """Folds `batches` and `assessments` of one partition, in the log's order."""

    def __init__(
        self,
        span: Span,
        zone_at: Callable[[datetime], ZoneInfo],
        write: Callable[[EventOutcome], None],
        write_refined: Callable[[Refined], None] | None = None,
    ) -> None:
        """`write_refined` takes what the language model said; None: it does not matter."""
        self._span = span
        self._zone_at = zone_at
        self._write = write
        self._write_refined = write_refined
        self._cuts: dict[str, Cut] = {}
        self._open: dict[str, list[str]] = {}
        self._parts: dict[str, _Parts] = {}
        self._events = 0
        self._last: datetime | None = None
        self._rules: set[str] = set()
        self._prompts: set[str] = set()

    def take(self, envelope: Envelope) -> None:
        """Take the next envelope of either stream."""
        event = envelope.event
        if not self._span.sees(event.camera_id):
            return
        match event:
            case PictureBatched():
                self._joined(event)
            case BatchEscalated():
                self._part(event.event_id).escalated = digest(event)
            case BatchClosed():
                self._closed(event, envelope.recorded_at)
            case RiskAssessed():
                self._assessed(event)
            case AssessmentRefined(stage="final") if self._write_refined is not None:
                self._write_refined(self._refined(event))

    def summary(self) -> RecordedSummary:
        """Return what is left at the end."""
        unfinished = [
            Unfinished(event_id=event_id(batch), picture_ids=tuple(pictures))
            for batch, pictures in self._open.items()
        ]
        unfinished += [
            Unfinished(
                event_id=parts.closed.event_id,
                picture_ids=tuple(member.picture_id for member in parts.closed.members),
            )
            for parts in self._parts.values()
            if parts.closed is not None
        ]
        return RecordedSummary(
            cuts=self._cuts,
            unfinished=unfinished,
            last_detected_at=self._last,
            events=self._events,
            rules=self._rules,
            prompts=self._prompts,
        )

    def _refined(self, event: AssessmentRefined) -> Refined:
        if not event.canary and self._span.holds(event.started_at or event.ended_at):
            self._prompts.add(event.prompt_version)
        return Refined(
            event_id=event.event_id,
            score=event.score,
            level=event.level,
            summary=event.summary,
            canary=event.canary,
        )

    def _joined(self, event: PictureBatched) -> None:
        cut = self._cuts.setdefault(event.camera_id, Cut())
        opens = event.batch_id not in self._open and not event.late
        self._open.setdefault(event.batch_id, []).append(event.member.picture_id)
        self._last = (
            event.detected_at if self._last is None else max(self._last, event.detected_at)
        )
        if cut.first_picture:
            return
        if opens and event.member.captured_at >= self._span.begin:
            cut.first_picture, cut.first_at = event.member.picture_id, event.detected_at
        else:
            cut.after = event.detected_at

    def _closed(self, event: BatchClosed, recorded_at: datetime) -> None:
        self._open.pop(event.batch_id, None)
        cut = self._cuts.setdefault(event.camera_id, Cut())
        if not cut.first_picture:
            local = event.started_at.astimezone(self._zone_at(recorded_at))
            cut.usual = cut.usual.with_batch(main_label(event.members), local)
        if not self._span.holds(event.started_at):
            self._parts.pop(event.event_id, None)
            return
        self._part(event.event_id).closed = event
        self._finish(event.event_id)

    def _assessed(self, event: RiskAssessed) -> None:
        if event.stage == "final":
            if event.event_id not in self._parts:
                return  # Its batch did not begin in the span.
            self._parts[event.event_id].assessed = event
            self._rules.add(event.rules_version)
        elif event.event_id in self._parts:
            self._parts[event.event_id].fast_assessed = digest(event)
        self._finish(event.event_id)

    def _part(self, event: str) -> _Parts:
        return self._parts.setdefault(event, _Parts())

    def _finish(self, event: str) -> None:
        parts = self._parts.get(event)
        outcome = parts.outcome() if parts is not None else None
        if outcome is not None:
            self._write(outcome)
            self._events += 1
            del self._parts[event]
