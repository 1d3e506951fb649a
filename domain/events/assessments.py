"""Stream `assessments`: how risky a batch was, what people said of it, what retention took."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Event, Moment
from domain.events.batches import Baseline, CloseReason

Stage = Literal["fast_path", "final"]


Level = Literal["low", "medium", "high", "critical"]


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing the rules looked at: what was found, what it added, and why, in words."""

    name: str
    value: str
    points: int
    why: str


class ObjectFact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One kind of object in a batch: most seen in one picture, and the best score."""

    label: str
    most_at_once: int
    pictures: int
    best_score: float


class BatchFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the rules and the language model are told about a batch; nothing else reaches them."""

    objects: tuple[ObjectFact, ...]
    picture_count: int
    dwell_seconds: float
    """Seconds from the first to the last picture in which the main kind of object was seen."""
    local_time: str
    """Local time of the first picture at the camera, `YYYY-MM-DD HH:MM`, and its weekday."""
    part_of_day: str
    baseline: Baseline


class RiskAssessed(Event, frozen=True, kw_only=True):
    """The rules' deterministic score of a batch; stands at once and on its own."""

    TAG: ClassVar[str] = "risk.assessed"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    batch_id: str
    started_at: Moment
    ended_at: Moment
    stage: Stage
    """`fast_path`: the batch is still open; `final`: it is closed."""
    score: int
    level: Level
    floor: int
    """The language model can never move the score below this."""
    signals: tuple[Signal, ...]
    summary: str
    reasoning: str
    rules_version: str
    facts: BatchFacts
    picture_ids: tuple[str, ...]
    is_fast_path: bool = False
    close_reason: CloseReason | None = None
    alert_within_seconds: int | None = None
    """Recorded later than this after the last picture, it is too old to alert; None: no limit."""

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class AssessmentRefined(Event, frozen=True, kw_only=True):
    """The language model's summary and reasoning, and its bounded move of the rules' score."""

    TAG: ClassVar[str] = "assessment.refined"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    batch_id: str
    ended_at: Moment
    stage: Stage
    rule_score: int
    model_score: int
    """What the model answered; evidence only."""
    score: int
    level: Level
    summary: str
    reasoning: str
    model: str
    prompt_version: str
    prompt_sha256: str
    raw_text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    started_at: Moment | None = None
    """Like the two below, as the rules' assessment has it; None in events of older software."""
    is_fast_path: bool | None = None
    picture_ids: tuple[str, ...] = ()
    tokens_cached: int | None = None
    """Tokens of the question the model still had from before; None: it does not tell."""
    context_window: int | None = None
    """Tokens of context the model has for one question; None: it does not tell."""
    left_out: tuple[str, ...] = ()
    """Parts of the question that did not fit the context, the least useful first."""
    alert_within_seconds: int | None = None
    """As the rules' assessment has it; here it limits the age of this word."""
    canary: bool = False
    """True when a candidate on trial answered instead of the prompt in service."""
    candidate_failure: str | None = None
    """Why the candidate did not answer about an event that was to be a canary."""

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class EventReviewed(Event, frozen=True, kw_only=True):
    """A person looked at an event (or took that mark back), perhaps with a note."""

    TAG: ClassVar[str] = "event.reviewed"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    reviewed: bool | None = None
    """None leaves the mark as it is."""
    notes: str | None = None
    """None leaves the note as it is; an empty text removes it."""
    actor: str = "anonymous"


class EventHeld(Event, frozen=True, kw_only=True):
    """A person put an event under legal hold (or lifted it): retention passes it by."""

    TAG: ClassVar[str] = "event.held"
    STREAM: ClassVar[str] = "assessments"

    event_id: str
    held: bool
    actor: str = "anonymous"


class RetentionApplied(Event, frozen=True, kw_only=True):
    """What this camera saw before `cutoff` is shown no more, and its pictures are deleted.

    Holds for what was recorded before `as_of` and is not named as kept, whatever is replayed.
    """

    TAG: ClassVar[str] = "retention.applied"
    STREAM: ClassVar[str] = "assessments"

    cutoff: Moment
    as_of: Moment
    """When it was decided; names the run, over all cameras."""
    kept_event_ids: tuple[str, ...] = ()
    kept_picture_ids: tuple[str, ...] = ()
    kept_file_ids: tuple[str, ...] = ()
    events_deleted: int
    detections_deleted: int
    images_deleted: int
    space_reclaimed: int


class ActivityUnverified(Event, frozen=True, kw_only=True):
    """A picture arrived and nobody can look at it at present: told to those who wish to know.

    It says no more than that. One a camera and outage, of the first picture that waits.
    """

    TAG: ClassVar[str] = "activity.unverified"
    STREAM: ClassVar[str] = "assessments"

    picture_id: str
    file_id: str
    captured_at: Moment
    service: str
    """What is away."""
    reason: Literal["service_away"]

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at
