"""From envelopes and rows to the facts of a lineage; pure."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from api.lineage_schemas import (
    AssessmentFact,
    BatchFact,
    DetectionFact,
    Entry,
    EscalationFact,
    FileFact,
    MemberFact,
    NotificationFact,
    ParkedFact,
    RefinementFact,
    ReviewFact,
    SeenBox,
    Telling,
)
from domain.events import (
    ActivityUnverified,
    AssessmentRefined,
    BatchClosed,
    BatchEscalated,
    EntryParked,
    EventReviewed,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
    ObjectsDetected,
    RiskAssessed,
)
from domain.lateness import NoAlert, why_no_alert
from projections.rows import FileRow
from streams.envelope import Envelope


def entry_of(envelope: Envelope) -> Entry:
    """Return where an envelope stands and what led to it."""
    return Entry(
        stream=envelope.stream,
        partition=envelope.partition,
        position=str(envelope.position),
        id=envelope.id,
        type=f"{envelope.tag}/{envelope.event.VERSION}",
        recorded_at=envelope.recorded_at,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
    )


def file_fact(row: FileRow, envelope: Envelope | None) -> FileFact:
    """Return a file with the entry by which it was taken in."""
    return FileFact(
        file_id=row.file_id,
        camera_id=row.camera_id,
        path=row.path,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        media=row.media,
        captured_at=row.captured_at,
        captured_from=row.captured_from,
        received_at=row.received_at,
        width=row.width,
        height=row.height,
        frames=row.frames,
        state=row.state,
        reason=row.reason,
        entry=entry_of(envelope) if envelope else None,
    )


def detection_fact(detected: ObjectsDetected, envelope: Envelope) -> DetectionFact:
    """Return every box the model saw, and which of them counted."""
    boxes = [
        SeenBox(
            label=box.label,
            score=box.score,
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
            counts=box.score >= detected.threshold,
        )
        for box in detected.boxes
    ]
    return DetectionFact(
        model=detected.model,
        model_version=detected.model_version,
        engine=detected.engine,
        fallback=detected.fallback,
        canary=detected.canary,
        inference_ms=detected.inference_ms,
        threshold=detected.threshold,
        boxes=boxes,
        entry=entry_of(envelope),
    )


def batch_fact(envelopes: Iterable[Envelope]) -> BatchFact | None:
    """Return the batch as its close tells it, else as its newest escalation does."""
    last: BatchEscalated | BatchClosed | None = None
    closed: Envelope | None = None
    escalations = []
    for envelope in envelopes:
        match envelope.event:
            case BatchEscalated() as event:
                last = last if isinstance(last, BatchClosed) else event
                escalations.append(_escalation(event, envelope))
            case BatchClosed() as event:
                last, closed = event, envelope
            case _:
                continue
    if last is None:
        return None
    return BatchFact(
        batch_id=last.batch_id,
        started_at=last.started_at,
        ended_at=last.ended_at,
        close_reason=last.reason if isinstance(last, BatchClosed) else None,
        is_fast_path=last.is_fast_path if isinstance(last, BatchClosed) else True,
        baseline=last.baseline,
        members=[
            MemberFact(
                picture_id=member.picture_id,
                file_id=member.file_id,
                captured_at=member.captured_at,
                detections=len(member.detections),
            )
            for member in last.members
        ],
        escalations=escalations,
        entry=entry_of(closed) if closed else None,
    )


def _escalation(event: BatchEscalated, envelope: Envelope) -> EscalationFact:
    return EscalationFact(
        label=event.trigger.label,
        score=event.trigger.score,
        members=len(event.members),
        entry=entry_of(envelope),
    )


def assessment_facts(envelopes: Sequence[Envelope]) -> list[AssessmentFact]:
    """Return the assessments, the one in force first, each with the word of the model on it.

    A final assessment counts before one of the fast path, of the same stage the later one; the
    read model `timeline` decides the same.
    """
    told = [(e.event, e) for e in envelopes if isinstance(e.event, RiskAssessed)]
    told.sort(key=lambda pair: (pair[0].stage == "final", pair[1].position), reverse=True)
    return [
        AssessmentFact(
            stage=assessed.stage,
            in_force=number == 0,
            score=assessed.score,
            level=assessed.level,
            floor=assessed.floor,
            signals=list(assessed.signals),
            summary=assessed.summary,
            reasoning=assessed.reasoning,
            rules_version=assessed.rules_version,
            age_seconds=(envelope.recorded_at - assessed.ended_at).total_seconds(),
            alert_within_seconds=assessed.alert_within_seconds,
            alert=_no_alert(assessed, envelope) is None,
            alert_reason=_no_alert(assessed, envelope),
            facts=assessed.facts,
            refinement=_refinement(assessed, envelope, envelopes),
            entry=entry_of(envelope),
        )
        for number, (assessed, envelope) in enumerate(told)
    ]


def _no_alert(assessed: RiskAssessed, envelope: Envelope) -> NoAlert | None:
    within = assessed.alert_within_seconds
    return why_no_alert(assessed.ended_at, envelope.recorded_at, within)


def _refinement(
    assessed: RiskAssessed, of: Envelope, envelopes: Sequence[Envelope]
) -> RefinementFact | None:
    """Return the refinement that this assessment led to, else the newest of its stage."""
    words = [
        (e.event, e)
        for e in envelopes
        if isinstance(e.event, AssessmentRefined) and e.event.stage == assessed.stage
    ]
    words.sort(key=lambda pair: (pair[1].causation_id == of.id, pair[1].position))
    if not words:
        return None
    refined, envelope = words[-1]
    return RefinementFact(
        model=refined.model,
        prompt_version=refined.prompt_version,
        prompt_sha256=refined.prompt_sha256,
        raw_text=refined.raw_text,
        model_score=refined.model_score,
        score=refined.score,
        level=refined.level,
        summary=refined.summary,
        reasoning=refined.reasoning,
        tokens_in=refined.tokens_in,
        tokens_out=refined.tokens_out,
        seconds=refined.seconds,
        canary=refined.canary,
        candidate_failure=refined.candidate_failure,
        entry=entry_of(envelope),
    )


def review_facts(envelopes: Iterable[Envelope]) -> list[ReviewFact]:
    """Return what people said, oldest first."""
    return [
        ReviewFact(
            reviewed=event.reviewed,
            notes=event.notes,
            actor=event.actor,
            entry=entry_of(envelope),
        )
        for envelope in envelopes
        if isinstance(event := envelope.event, EventReviewed)
    ]


def notification_facts(envelopes: Iterable[Envelope]) -> list[NotificationFact]:
    """Return who was to be told, oldest first, each with its last outcome."""
    found: dict[str, NotificationFact] = {}
    for envelope in sorted(envelopes, key=lambda each: each.position):
        event = envelope.event
        match event:
            case NotificationRequested():
                found[event.notification_id] = _requested(event, envelope)
            case NotificationSent() | NotificationFailed():
                if (wanted := found.get(event.notification_id)) is not None:
                    found[event.notification_id] = _ended(wanted, event, envelope)
            case _:
                continue
    return list(found.values())


def _requested(event: NotificationRequested, envelope: Envelope) -> NotificationFact:
    return NotificationFact(
        notification_id=event.notification_id,
        channel=event.channel,
        late=event.late,
        outcome="waiting",
        status=None,
        seconds=None,
        reason=None,
        attempted_at=None,
        requested=entry_of(envelope),
        entry=None,
    )


def _ended(
    wanted: NotificationFact, event: NotificationSent | NotificationFailed, envelope: Envelope
) -> NotificationFact:
    return replace(
        wanted,
        outcome="sent" if isinstance(event, NotificationSent) else "failed",
        status=event.status,
        seconds=event.seconds if isinstance(event, NotificationSent) else None,
        reason=event.reason if isinstance(event, NotificationFailed) else None,
        attempted_at=event.attempted_at,
        entry=entry_of(envelope),
    )


def parked_facts(envelopes: Iterable[Envelope]) -> list[ParkedFact]:
    """Return what was moved aside, oldest first."""
    return [
        ParkedFact(
            group=event.group,
            cause=event.cause,
            error=event.error,
            attempts=event.attempts,
            service_version=event.service_version,
            entry=entry_of(envelope),
        )
        for envelope in envelopes
        if isinstance(event := envelope.event, EntryParked)
    ]


def telling(envelopes: Iterable[Envelope]) -> Telling | None:
    """Return how a picture was told as unverified; None when it was not."""
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, ActivityUnverified):
            return Telling(
                told_at=envelope.recorded_at,
                service=event.service,
                reason=event.reason,
                entry=entry_of(envelope),
            )
    return None
