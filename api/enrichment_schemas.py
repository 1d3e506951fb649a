"""The wire contract of what optional services add: per event, and entities across cameras."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.schemas import EventDetailAnswer, Id, PageCursor, PageLimit
from domain.events import Attribute, EnrichmentService, SightingKind
from projections.enrichment_queries import EntityRow, SightingRow


class EntitiesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/entities."""

    kind: SightingKind | None = None
    camera_id: Id | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    min_cameras: Annotated[int, Meta(ge=1, le=1000)] | None = None
    min_sightings: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/entities/{id}/history."""

    camera_id: Id | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    limit: PageLimit = 50
    cursor: PageCursor | None = None


class SightingAnswer(SightingRow, frozen=True, kw_only=True):
    """One object of an event.

    `parent_id` is the earlier sighting it was matched with and `similarity` how alike they are, by
    the model named; both null: it is the first of its entity.
    """

    links: dict[str, str]


class DescribedObject(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of one object."""

    detection_id: str
    picture_id: str
    label: str
    attributes: tuple[Attribute, ...]


class EnrichmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one service added to an event, or why it did not. Its text is untrusted."""

    service: EnrichmentService
    status: Literal["enriched", "not_enriched"]
    code: str | None
    """not_enriched: not_configured, waiting, service_away, nothing_to_look_at, picture_gone,
    refused or bad_answer."""
    why: str | None
    recorded_at: datetime | None
    model: str | None
    model_version: str | None
    seconds: float | None
    picture_id: str | None
    caption: str | None
    objects: list[DescribedObject]
    sightings: list[SightingAnswer]
    """Empty for a key for some cameras: what a sighting was matched with tells of others."""


class EnrichmentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/events/{id}/enrichments: one entry a service, in a fixed order."""

    event_id: str
    enrichments: list[EnrichmentAnswer]
    count: int


class EnrichedEventAnswer(EventDetailAnswer, frozen=True, kw_only=True):
    """GET /api/events/{id}: the event, its chain, and what optional services added to it."""

    enrichments: list[EnrichmentAnswer]


class EntityAnswer(EntityRow, frozen=True, kw_only=True):
    """Somebody or something that was seen, as far as looks can tell."""

    links: dict[str, str]


class EntitiesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/entities, the one seen last first."""

    entities: list[EntityAnswer]
    count: int
    limit: int
    next_cursor: str | None


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/entities/{id}/history, the newest sighting first."""

    entity_id: str
    sightings: list[SightingAnswer]
    count: int
    limit: int
    next_cursor: str | None
