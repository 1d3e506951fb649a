"""Routes of events, detections and files: lists by pages, one with its chain, review marks."""

from aiohttp import web
from msgspec import UNSET

from api.access import actor_of
from api.answers import (
    detection_answer,
    event_answer,
    event_detail_answer,
    file_detail_answer,
)
from api.commands import record, recorded_answer
from api.enrichment_schemas import EnrichedEventAnswer
from api.enrichments import enrichments_of
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import (
    DetectionAnswer,
    DetectionsAnswer,
    DetectionsQuery,
    EventAnswer,
    EventChange,
    EventDetections,
    EventsAnswer,
    EventsQuery,
    FileDetailAnswer,
    Recorded,
)
from api.services import SERVICES, answer
from domain.events import EventHeld, EventReviewed
from projections.cursor import BadCursorError
from projections.rows import DetectionFilter, EventFilter, EventRow
from projections.timeline_queries import EventWhole

PROJECTION = "timeline"

routes = Routes("events")


@routes.get("/api/events", EventsAnswer, problems=["invalid_cursor"])
async def list_events(request: web.Request, query: EventsQuery) -> web.Response:
    """Answer events, newest first."""
    which = EventFilter(
        camera_id=query.camera_id,
        risk_level=query.risk_level,
        min_score=query.min_score,
        start=query.start_date,
        end=query.end_date,
        reviewed=query.reviewed,
        object_type=query.object_type,
        is_fast_path=query.is_fast_path,
    )
    services = request.app[SERVICES]
    try:
        page = await services.queries.events(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    events = [event_answer(row, services.config.late_after_seconds) for row in page.items]
    return answer(
        EventsAnswer(
            events=events, count=len(events), limit=query.limit, next_cursor=page.next_cursor
        )
    )


@routes.get("/api/events/{id}", EnrichedEventAnswer, problems=["event_not_found"])
async def get_event(request: web.Request) -> web.Response:
    """Answer one event with its chain back to the files, and what optional services added."""
    services = request.app[SERVICES]
    event = await _event(request)
    added = enrichments_of(services, event)
    return answer(event_detail_answer(event, added, services.config.late_after_seconds))


@routes.get("/api/events/{id}/detections", EventDetections, problems=["event_not_found"])
async def event_detections(request: web.Request) -> web.Response:
    """Answer the detections of one event."""
    detail = await _event(request)
    detections = [detection_answer(row) for row in detail.detections]
    return answer(EventDetections(detections=detections, count=len(detections)))


@routes.patch(
    "/api/events/{id:(?!(?:stats|search|export)$)[^/]+}",
    {200: EventAnswer, 202: Recorded},
    problems=["event_not_found"],
)
async def review_event(request: web.Request, body: EventChange) -> web.Response:
    """Record a review mark or a note, or a legal hold."""
    detail = await _event(request)
    if body == EventChange():
        raise ProblemError("invalid_body", "nothing to change: give reviewed, notes or hold")
    event = _changed(detail.event, body, actor_of(request))
    if not await record(request, event, PROJECTION):
        return recorded_answer(f"/api/events/{detail.event.id}")
    late_after = request.app[SERVICES].config.late_after_seconds
    return answer(event_answer((await _event(request)).event, late_after))


def _changed(event: EventRow, wanted: EventChange, actor: str) -> EventReviewed | EventHeld:
    if wanted.hold is UNSET:
        return EventReviewed(
            camera_id=event.camera_id,
            event_id=event.id,
            reviewed=None if wanted.reviewed is UNSET else wanted.reviewed,
            notes=None if wanted.notes is UNSET else wanted.notes,
            actor=actor,
        )
    if wanted.reviewed is not UNSET or wanted.notes is not UNSET:
        raise ProblemError(
            "invalid_body", "hold is a request of its own: send reviewed and notes in another"
        )
    return EventHeld(camera_id=event.camera_id, event_id=event.id, held=wanted.hold, actor=actor)


async def _event(request: web.Request) -> EventWhole:
    wanted = path_id(request, "event_not_found")
    detail = await request.app[SERVICES].queries.event(wanted)
    if detail is None:
        raise ProblemError("event_not_found", f"there is no event {wanted!r}")
    return detail


@routes.get("/api/detections", DetectionsAnswer, problems=["invalid_cursor"])
async def list_detections(request: web.Request, query: DetectionsQuery) -> web.Response:
    """Answer detections, newest first."""
    which = DetectionFilter(
        camera_id=query.camera_id,
        object_type=query.object_type,
        start=query.start_date,
        end=query.end_date,
        min_confidence=query.min_confidence,
    )
    queries = request.app[SERVICES].queries
    try:
        page = await queries.detections(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    found = [detection_answer(row) for row in page.items]
    return answer(
        DetectionsAnswer(
            detections=found,
            count=len(found),
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


@routes.get("/api/detections/{id}", DetectionAnswer, problems=["detection_not_found"])
async def get_detection(request: web.Request) -> web.Response:
    """Answer one detection."""
    wanted = path_id(request, "detection_not_found")
    row = await request.app[SERVICES].queries.detection(wanted)
    if row is None:
        raise ProblemError("detection_not_found", f"there is no detection {wanted!r}")
    return answer(detection_answer(row))


@routes.get("/api/files/{id}", FileDetailAnswer, problems=["file_not_found"])
async def get_file(request: web.Request) -> web.Response:
    """Answer where a file stands and why, with everything that came of it."""
    wanted = path_id(request, "file_not_found")
    detail = await request.app[SERVICES].queries.file(wanted)
    if detail is None:
        raise ProblemError("file_not_found", f"there is no file {wanted!r}")
    return answer(file_detail_answer(detail))
