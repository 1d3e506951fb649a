"""Queries of what optional services added: words about an event, entities and their sightings."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from domain.events import EnrichmentService, ObjectAttributes, SightingKind
from projections.cursor import Cursor
from projections.paging import page_conditions, page_of, page_values
from projections.reading import Reader
from projections.rows import Page, Row

# An event that shows nobody and nothing shows no more when it is asked about again.
UNENRICHED: Final = SQL(
    """SELECT e.id AS event_id, w.event_id IS NOT NULL AS told
    FROM events e LEFT JOIN enrichments w ON w.event_id = e.id AND w.service = %(service)s
    WHERE e.id = ANY (%(events)s) AND e.stage IS NOT NULL
      AND NOT COALESCE(w.enriched OR w.code = 'nothing_to_look_at', false)"""
)

SIGHTING_COLUMNS: Final = SQL(
    """s.id, s.detection_id, s.event_id, s.camera_id, s.picture_id, s.captured_at, s.kind,
    s.label, s.confidence, s.entity_id, s.parent_id, s.similarity, s.threshold, s.model,
    s.model_version"""
)

HISTORY: Final = SQL(
    """SELECT {columns} FROM sightings s WHERE s.entity_id = %(entity_id)s AND {conditions}
    ORDER BY s.captured_at DESC, s.id DESC LIMIT %(limit)s"""
)

HISTORY_CONDITIONS: Final = {
    "camera_id": SQL("s.camera_id = %(camera_id)s"),
    "start": SQL("s.captured_at >= %(start)s"),
    "end": SQL("s.captured_at < %(end)s"),
    "after_id": SQL("(s.captured_at, s.id) < (%(after_at)s, %(after_id)s)"),
}

_ENTITIES: Final = SQL(
    """SELECT s.entity_id AS id, min(s.kind) AS kind, count(*) AS sightings,
    count(DISTINCT s.event_id) AS events,
    array_agg(DISTINCT s.camera_id ORDER BY s.camera_id) AS camera_ids,
    min(s.captured_at) AS first_seen_at, max(s.captured_at) AS last_seen_at,
    (array_agg(s.detection_id ORDER BY s.confidence DESC, s.id))[1] AS best_detection_id,
    min(s.similarity) AS least_similarity, min(s.model) AS model,
    min(s.model_version) AS model_version
    FROM sightings s WHERE {where} GROUP BY s.entity_id"""
)

ENTITIES: Final = SQL(
    """SELECT * FROM ({entities}) AS e WHERE {conditions}
    ORDER BY last_seen_at DESC, id DESC LIMIT %(limit)s"""
)

ENTITY_CONDITIONS: Final = {
    "camera_id": SQL("%(camera_id)s = ANY (camera_ids)"),
    "start": SQL("last_seen_at >= %(start)s"),
    "end": SQL("first_seen_at < %(end)s"),
    "min_cameras": SQL("cardinality(camera_ids) >= %(min_cameras)s"),
    "min_sightings": SQL("sightings >= %(min_sightings)s"),
    "after_id": SQL("(last_seen_at, id) < (%(after_at)s, %(after_id)s)"),
}

# A sighting that began an entity until an earlier one became known still names it.
ENTITY_OF: Final = SQL("SELECT entity_id FROM sightings WHERE id = %(id)s")


class WordRow(Row, frozen=True, kw_only=True):
    """The last word of one service about an event."""

    event_id: str
    service: EnrichmentService
    recorded_at: datetime
    enriched: bool
    code: str | None
    why: str | None
    picture_id: str | None
    caption: str | None
    objects: list[ObjectAttributes] | None
    model: str | None
    model_version: str | None
    seconds: float | None


class SightingRow(Row, frozen=True, kw_only=True):
    """One object of an event, with the earlier sighting that it was matched with, if any."""

    id: str
    detection_id: str
    event_id: str
    camera_id: str
    picture_id: str
    captured_at: datetime
    kind: SightingKind
    label: str
    confidence: float
    entity_id: str
    parent_id: str | None
    similarity: float | None
    threshold: float
    model: str
    model_version: str


class EntityRow(Row, frozen=True, kw_only=True):
    """Somebody or something that was seen, perhaps more than once and by several cameras."""

    id: str
    kind: SightingKind
    sightings: int
    events: int
    camera_ids: list[str]
    first_seen_at: datetime
    last_seen_at: datetime
    best_detection_id: str
    least_similarity: float | None
    """Of its matches the least sure; None for a single sighting."""
    model: str
    model_version: str


class _Wanted(Row, frozen=True, kw_only=True):
    event_id: str
    told: bool


class _EntityId(Row, frozen=True, kw_only=True):
    entity_id: str


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Which entities to list; None does not restrict."""

    kind: SightingKind | None = None
    camera_id: str | None = None
    start: datetime | None = None
    """Entities that were seen at this moment or later."""
    end: datetime | None = None
    """Entities that were seen before this moment."""
    min_cameras: int | None = None
    min_sightings: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which sightings of an entity to list; None does not restrict."""

    camera_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class EnrichmentQueries(Reader):
    """Reads of the enrichment's tables."""

    async def unenriched(self, service: str, event_ids: list[str]) -> dict[str, bool]:
        """Return those of the events to which a service might still add something.

        Each with whether a word stands already that says why it did not.
        """
        wanted = {"service": service, "events": event_ids}
        return {row.event_id: row.told for row in await self._all(_Wanted, UNENRICHED, wanted)}

    async def entities(
        self, wanted: EntityFilter, *, limit: int, after: str | None = None
    ) -> Page[EntityRow]:
        """Return a page of entities, the one seen last first."""
        values = page_values(asdict(wanted), limit, after)
        where = SQL("s.kind = %(kind)s") if wanted.kind else SQL("true")
        statement = ENTITIES.format(
            entities=_ENTITIES.format(where=where),
            conditions=page_conditions(ENTITY_CONDITIONS, values),
        )
        rows = await self._all(EntityRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.last_seen_at, row.id))

    async def entity(self, entity_id: str) -> EntityRow | None:
        """Return an entity by its id, or by that of any of its sightings."""
        found = await self._first(_EntityId, ENTITY_OF, {"id": entity_id})
        if found is None:
            return None
        statement = _ENTITIES.format(where=SQL("s.entity_id = %(id)s"))
        return await self._first(EntityRow, statement, {"id": found.entity_id})

    async def entity_history(
        self, entity_id: str, wanted: HistoryFilter, *, limit: int, after: str | None = None
    ) -> Page[SightingRow]:
        """Return a page of an entity's sightings, the newest first."""
        values = page_values(asdict(wanted), limit, after) | {"entity_id": entity_id}
        statement = HISTORY.format(
            columns=SIGHTING_COLUMNS, conditions=page_conditions(HISTORY_CONDITIONS, values)
        )
        rows = await self._all(SightingRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.captured_at, row.id))
