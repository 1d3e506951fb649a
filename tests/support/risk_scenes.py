"""Builders of facts, batches and envelopes for the tests of assessing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from domain.events import (
    Baseline,
    BatchClosed,
    BatchEscalated,
    BatchFacts,
    BatchMember,
    Box,
    Event,
    ObjectFact,
    RiskAssessed,
)
from domain.risk import Bands, CameraView
from domain.risk_rules import judge
from streams.envelope import Envelope, Position

BANDS = Bands()
NOON = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Cameras:
    """A camera directory that knows one camera."""

    camera: CameraView = field(default_factory=lambda: CameraView("Front Door", entry_point=False))

    def view(self, camera_id: str) -> CameraView:
        return self.camera


def facts(
    *labels: str,
    part: str = "day",
    dwell: float = 0,
    days: int = 0,
    times: int = 0,
    pictures: int = 4,
    seen_in: int = 4,
    score: float = 0.9,
) -> BatchFacts:
    """Facts about `labels`; a label given twice was seen twice in one picture."""
    clock = {"night": "03:12", "dawn": "05:40", "day": "13:00", "evening": "20:30"}[part]
    objects = tuple(
        ObjectFact(
            label=label, most_at_once=labels.count(label), pictures=seen_in, best_score=score
        )
        for label in dict.fromkeys(labels)
    )
    return BatchFacts(
        objects=objects,
        picture_count=pictures,
        dwell_seconds=dwell,
        local_time=f"2026-06-02 {clock} Tuesday",
        part_of_day=part,
        baseline=Baseline(days_observed=days, same_hour=times),
    )


def box(label: str, score: float = 0.9) -> Box:
    return Box(label=label, score=score, x=1, y=2, width=30, height=40)


def members(
    *pictures: Sequence[Box], start: datetime = NOON, every: float = 5
) -> tuple[BatchMember, ...]:
    """One picture each `every` seconds."""
    return tuple(
        BatchMember(
            picture_id=f"pic_{index}",
            file_id=f"file_{index}",
            uri=f"camera:front/{index}.jpg",
            captured_at=start + timedelta(seconds=index * every),
            width=640,
            height=480,
            detections=tuple(boxes),
        )
        for index, boxes in enumerate(pictures)
    )


def closed(
    pictures: tuple[BatchMember, ...], *, fast_path: bool = False, baseline: Baseline | None = None
) -> BatchClosed:
    return BatchClosed(
        camera_id="front_door",
        batch_id="batch_1",
        event_id="evt_1",
        started_at=pictures[0].captured_at,
        ended_at=pictures[-1].captured_at,
        members=pictures,
        reason="idle",
        is_fast_path=fast_path,
        baseline=baseline or Baseline(),
    )


def escalated(pictures: tuple[BatchMember, ...]) -> BatchEscalated:
    return BatchEscalated(
        camera_id="front_door",
        batch_id="batch_1",
        event_id="evt_1",
        started_at=pictures[0].captured_at,
        ended_at=pictures[-1].captured_at,
        members=pictures,
        trigger=pictures[-1].detections[0],
        baseline=Baseline(),
    )


def assessed(scene: BatchFacts, *, entry_point: bool = False) -> RiskAssessed:
    """An assessment with the rules' own verdict about `scene`."""
    verdict = judge(scene, entry_point=entry_point)
    return RiskAssessed(
        camera_id="front_door",
        event_id="evt_1",
        batch_id="batch_1",
        started_at=NOON,
        ended_at=NOON,
        stage="final",
        score=verdict.score,
        level="low",
        floor=verdict.floor,
        signals=verdict.signals,
        summary="s",
        reasoning="r",
        rules_version="rules-1",
        facts=scene,
        picture_ids=("pic_0",),
    )


def envelope(event: Event) -> Envelope:
    return Envelope(
        id="e_1",
        event=event,
        stream=event.STREAM,
        partition=0,
        position=Position(1, 0),
        occurred_at=NOON,
        correlation_id="batch_1",
        causation_id="",
    )
