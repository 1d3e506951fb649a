"""From a batch to an assessment, and from a model's opinion to its bounded refinement."""

from dataclasses import dataclass
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from domain.events import (
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    BatchFacts,
    Level,
    RiskAssessed,
)
from domain.names import clean_name, counted
from domain.risk_rules import Verdict, judge
from domain.rule_weights import RULES, Rules
from domain.scene import facts_of

MODEL_MOVE: Final = 20
"""Points by which a language model may move the rules' score, up or down."""


@dataclass(frozen=True, slots=True)
class Bands:
    """The highest score of each level; above `high_max` it is critical."""

    low_max: int = 29
    medium_max: int = 59
    high_max: int = 84

    def __post_init__(self) -> None:
        if not 0 <= self.low_max < self.medium_max < self.high_max < 100:
            raise ValueError(
                f"severity bands {self.low_max}/{self.medium_max}/{self.high_max} must rise"
                " strictly within 0 to 99: set SEVERITY_LOW_MAX < SEVERITY_MEDIUM_MAX"
                " < SEVERITY_HIGH_MAX"
            )


@dataclass(frozen=True, slots=True)
class CameraView:
    """What the rules may know about a camera."""

    name: str
    entry_point: bool


class ModelOpinion(Protocol):
    """A language model's validated answer, with what is needed to check it later."""

    @property
    def score(self) -> int: ...

    @property
    def summary(self) -> str: ...

    @property
    def reasoning(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def prompt_version(self) -> str: ...

    @property
    def prompt_sha256(self) -> str: ...

    @property
    def raw_text(self) -> str: ...

    @property
    def tokens_in(self) -> int: ...

    @property
    def tokens_out(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def tokens_cached(self) -> int | None: ...

    @property
    def context_window(self) -> int | None: ...

    @property
    def left_out(self) -> tuple[str, ...]: ...


def level_of(score: int, bands: Bands) -> Level:
    """Return the level of a score; nothing else ever decides a level."""
    if score <= bands.low_max:
        return "low"
    if score <= bands.medium_max:
        return "medium"
    return "high" if score <= bands.high_max else "critical"


def bounded_score(rule_score: int, floor: int, model_score: int) -> int:
    """Return the score after the model's say: within MODEL_MOVE, never below the floor."""
    moved = max(rule_score - MODEL_MOVE, min(rule_score + MODEL_MOVE, model_score))
    return max(0, floor, min(100, moved))


def assess(
    batch: BatchEscalated | BatchClosed,
    camera: CameraView,
    timezone: ZoneInfo,
    bands: Bands,
    rules: Rules = RULES,
) -> RiskAssessed:
    """Return the rules' assessment of a batch: stands at once, without any model."""
    facts = facts_of(batch, timezone)
    verdict = judge(facts, entry_point=camera.entry_point, weights=rules.weights)
    level = level_of(verdict.score, bands)
    closed = batch if isinstance(batch, BatchClosed) else None
    return RiskAssessed(
        camera_id=batch.camera_id,
        event_id=batch.event_id,
        batch_id=batch.batch_id,
        started_at=batch.started_at,
        ended_at=batch.ended_at,
        stage="final" if closed else "fast_path",
        score=verdict.score,
        level=level,
        floor=verdict.floor,
        signals=verdict.signals,
        summary=summary_of(facts, camera),
        reasoning=reasoning_of(verdict, level),
        rules_version=rules.version,
        facts=facts,
        picture_ids=tuple(member.picture_id for member in batch.members),
        is_fast_path=closed.is_fast_path if closed else True,
        close_reason=closed.reason if closed else None,
    )


def refine(assessed: RiskAssessed, opinion: ModelOpinion, bands: Bands) -> AssessmentRefined:
    """Return the model's refinement of an assessment, its score bounded."""
    score = bounded_score(assessed.score, assessed.floor, opinion.score)
    return AssessmentRefined(
        camera_id=assessed.camera_id,
        event_id=assessed.event_id,
        batch_id=assessed.batch_id,
        ended_at=assessed.ended_at,
        stage=assessed.stage,
        rule_score=assessed.score,
        model_score=opinion.score,
        score=score,
        level=level_of(score, bands),
        summary=opinion.summary,
        reasoning=opinion.reasoning,
        model=opinion.model,
        prompt_version=opinion.prompt_version,
        prompt_sha256=opinion.prompt_sha256,
        raw_text=opinion.raw_text,
        tokens_in=opinion.tokens_in,
        tokens_out=opinion.tokens_out,
        seconds=opinion.seconds,
        tokens_cached=opinion.tokens_cached,
        context_window=opinion.context_window,
        left_out=opinion.left_out,
        started_at=assessed.started_at,
        is_fast_path=assessed.is_fast_path,
        picture_ids=assessed.picture_ids[:1],
        alert_within_seconds=assessed.alert_within_seconds,
    )


def summary_of(facts: BatchFacts, camera: CameraView) -> str:
    """Return one line such as `2 people at Front Door for 40 s at 03:12 (night)`."""
    things = [counted(fact.label, fact.most_at_once) for fact in facts.objects[:3]]
    if len(facts.objects) > len(things):
        things.append("more")
    stayed = f" for {_duration(facts.dwell_seconds)}" if facts.dwell_seconds >= 1 else ""
    clock = facts.local_time[11:16]
    return (
        f"{_listed(things)} at {clean_name(camera.name)}{stayed} at {clock} ({facts.part_of_day})"
    )


def reasoning_of(verdict: Verdict, level: Level) -> str:
    """Return why the score is what it is, the weightiest sign first."""
    weighty = sorted(
        (signal for signal in verdict.signals if signal.points),
        key=lambda signal: -abs(signal.points),
    )
    parts = [f"{signal.why} ({signal.points:+d})" for signal in weighty]
    if verdict.floor:
        parts.append(f"Never below {verdict.floor}: {verdict.floor_why}")
    return " ".join([f"Risk {verdict.score} of 100 ({level}).", *parts])


def _listed(things: list[str]) -> str:
    if len(things) < 2:
        return things[0] if things else "Nothing recognised"
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
