"""Stream `trials`: what a candidate made of a picture or an event, beside what is in service."""

from datetime import datetime
from typing import ClassVar

from domain.events.assessments import Level, Stage
from domain.events.base import Box, Event, Moment


class CandidateCompared(Event, frozen=True, kw_only=True):
    """Two detectors looked at one picture, or the candidate failed to.

    Nothing in the main line reads this. `boxes` are the candidate's; of a canary, where these
    stand in `objects.detected`, they are those of the detector in service.
    """

    TAG: ClassVar[str] = "candidate.compared"
    STREAM: ClassVar[str] = "trials"

    picture_id: str
    captured_at: Moment
    canary: bool = False
    """True when the candidate's answer went into the main line."""
    threshold: float
    error: str | None = None
    """Why the candidate gave no answer; then nothing below is known."""
    matched: int = 0
    missing: int = 0
    surplus: int = 0
    drift: float | None = None
    """Mean of the candidate's score less the other's, over what matched."""
    reference: str | None = None
    reference_version: str | None = None
    reference_ms: float | None = None
    candidate: str | None = None
    candidate_version: str | None = None
    candidate_ms: float | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class PromptCompared(Event, frozen=True, kw_only=True):
    """Two prompts were asked about an event's facts, or the candidate failed to answer.

    Nothing in the main line reads this: the event keeps the assessment that it has.
    """

    TAG: ClassVar[str] = "prompt.compared"
    STREAM: ClassVar[str] = "trials"

    event_id: str
    stage: Stage
    ended_at: Moment
    rule_score: int
    canary: bool = False
    """True when the event has the candidate's answer, and the prompt in service was asked here."""
    score: int
    """What the prompt in service makes of it; the event has this unless it is a canary."""
    level: Level
    model: str
    prompt_version: str
    seconds: float
    prompt_sha256: str | None = None
    """This and the two below of a canary only, where no event has them."""
    model_score: int | None = None
    summary: str | None = None
    candidate_prompt: str
    """Version of the candidate prompt."""
    error: str | None = None
    """Why the candidate gave no answer; then nothing below is known."""
    candidate_model: str | None = None
    candidate_prompt_sha256: str | None = None
    candidate_model_score: int | None = None
    """What the model answered; evidence only."""
    candidate_score: int | None = None
    """That answer within the rules' bounds."""
    candidate_level: Level | None = None
    candidate_seconds: float | None = None
    candidate_summary: str | None = None

    @property
    def drift(self) -> int | None:
        """Return the candidate's score less the one in service."""
        return None if self.candidate_score is None else self.candidate_score - self.score

    @property
    def agrees(self) -> bool | None:
        """Say whether both come to one level; None when the candidate gave no answer."""
        return None if self.candidate_level is None else self.candidate_level == self.level

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at
