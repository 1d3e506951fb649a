"""What optional services added to an event; where one added nothing, why.

Why is decided when it is asked for: a service that is not configured has no stage that could say
so, and one that is away will add its part later.
"""

from typing import Final

from aiohttp import web
from msgspec.structs import asdict

from api.enrichment_schemas import (
    DescribedObject,
    EnrichmentAnswer,
    EnrichmentsAnswer,
    SightingAnswer,
)
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from domain.enrichment import GROUP_OF
from domain.events import EnrichmentService
from projections.enrichment_queries import SightingRow, WordRow
from projections.scope import cameras_seen
from projections.timeline_queries import EventWhole

ORDER: Final[tuple[EnrichmentService, ...]] = ("florence", "clip", "enrichment")

routes = Routes("enrichments")


@routes.get("/api/events/{id}/enrichments", EnrichmentsAnswer, problems=["event_not_found"])
async def event_enrichments(request: web.Request) -> web.Response:
    """Answer caption, attributes and sightings of an event, or why each of them is missing."""
    services = request.app[SERVICES]
    wanted = path_id(request, "event_not_found")
    event = await services.queries.event(wanted)
    if event is None:
        raise ProblemError("event_not_found", f"there is no event {wanted!r}")
    found = enrichments_of(services, event)
    return answer(EnrichmentsAnswer(event_id=wanted, enrichments=found, count=len(found)))


def enrichments_of(services: ApiServices, event: EventWhole) -> list[EnrichmentAnswer]:
    """Return one answer a service, whether it said something or not."""
    words = {word.service: word for word in event.words}
    # Whom a sighting was matched with tells of other cameras.
    sightings = event.sightings if cameras_seen() is None else []
    return [
        _told(word, sightings if service == "clip" else [])
        if (word := words.get(service)) is not None
        else _untold(services, service)
        for service in ORDER
    ]


def sighting_answer(row: SightingRow) -> SightingAnswer:
    """Return a sighting with links to what it was seen in and to its entity."""
    links = {
        "entity": f"/api/entities/{row.entity_id}",
        "event": f"/api/events/{row.event_id}",
        "detection": f"/api/detections/{row.detection_id}",
        "image": f"/api/detections/{row.detection_id}/image",
        "camera": f"/api/cameras/{row.camera_id}",
    }
    return SightingAnswer(**asdict(row), links=links)


def _told(word: WordRow, sightings: list[SightingRow]) -> EnrichmentAnswer:
    return EnrichmentAnswer(
        service=word.service,
        status="enriched" if word.enriched else "not_enriched",
        code=word.code,
        why=word.why,
        recorded_at=word.recorded_at,
        model=word.model,
        model_version=word.model_version,
        seconds=word.seconds,
        picture_id=word.picture_id,
        caption=word.caption,
        objects=[DescribedObject(**asdict(each)) for each in word.objects or ()],
        sightings=[sighting_answer(row) for row in sightings],
    )


def _untold(services: ApiServices, service: EnrichmentService) -> EnrichmentAnswer:
    code, why = _why_not(services, service)
    return EnrichmentAnswer(
        service=service,
        status="not_enriched",
        code=code,
        why=why,
        recorded_at=None,
        model=None,
        model_version=None,
        seconds=None,
        picture_id=None,
        caption=None,
        objects=[],
        sightings=[],
    )


def _why_not(services: ApiServices, service: EnrichmentService) -> tuple[str, str]:
    if service not in services.config.enrichment_services:
        return "not_configured", f"no service is configured ({service.upper()}_URL is not set)"
    state = services.states.row(service)
    if services.states.gate(service, GROUP_OF[service]) or (state and state.status != "healthy"):
        said = state.message if state else "nobody has said why"
        return "service_away", f"the service is away, this follows once it answers: {said}"
    return (
        "waiting",
        "the batch is not closed yet or waits for its turn; `hsi enrich backfill` adds this to "
        "events from before the service was configured",
    )
