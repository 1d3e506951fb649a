"""Enrichment: what optional services added to events, and entities across cameras.

About one event the last word of each service stands (all of them lie in one partition, so which is
the last is the log's). The sightings of an event are those of the last word about its looks.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, LiteralString

import msgspec
import numpy as np

from domain import ids
from domain.events import (
    EventCaptioned,
    EventNotEnriched,
    ObjectAttributes,
    ObjectsDescribed,
    ObjectsEmbedded,
    RetentionApplied,
)
from projections.database import Connection
from projections.linking import relink
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

UPSERT: Final = """
INSERT INTO enrichments AS e (
    event_id, service, camera_id, ended_at, closed_at, recorded_at, enriched, code, why,
    picture_id, caption, objects, model, model_version, seconds, ms, seq)
SELECT
    event_id, service, camera_id, ended_at, closed_at, recorded_at, enriched, code, why,
    picture_id, caption, objects, model, model_version, seconds, ms, seq
FROM json_to_recordset(%(rows)s::json) AS r (
    event_id text, service text, camera_id text, ended_at timestamptz, closed_at timestamptz,
    recorded_at timestamptz, enriched boolean, code text, why text, picture_id text,
    caption text, objects jsonb, model text, model_version text, seconds double precision,
    ms bigint, seq bigint)
ON CONFLICT (event_id, service) DO UPDATE SET
    recorded_at = EXCLUDED.recorded_at, enriched = EXCLUDED.enriched, code = EXCLUDED.code,
    why = EXCLUDED.why, picture_id = EXCLUDED.picture_id, caption = EXCLUDED.caption,
    objects = EXCLUDED.objects, model = EXCLUDED.model, model_version = EXCLUDED.model_version,
    seconds = EXCLUDED.seconds, ms = EXCLUDED.ms, seq = EXCLUDED.seq
WHERE (EXCLUDED.ms, EXCLUDED.seq) > (e.ms, e.seq)
"""

# Whose last word about looks is among these, by position.
CURRENT: Final = """
SELECT e.event_id FROM enrichments e
JOIN unnest(%(events)s::text[], %(ms)s::bigint[], %(seq)s::bigint[]) AS r (event_id, ms, seq)
  ON e.event_id = r.event_id AND e.ms = r.ms AND e.seq = r.seq
WHERE e.service = 'clip'
"""

DROP_SIGHTINGS: Final = "DELETE FROM sightings WHERE event_id = ANY (%(events)s) RETURNING id"

INSERT_SIGHTINGS: Final = """
INSERT INTO sightings (
    id, detection_id, event_id, camera_id, picture_id, captured_at, kind, label, confidence, x, y,
    width, height, model, model_version, vector, threshold, window_hours, entity_id)
SELECT
    id, detection_id, event_id, camera_id, picture_id, captured_at, kind, label, confidence, x, y,
    width, height, model, model_version, vector, threshold, window_hours, id
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, detection_id text, event_id text, camera_id text, picture_id text,
    captured_at timestamptz, kind text, label text, confidence double precision,
    x double precision, y double precision, width double precision, height double precision,
    model text, model_version text, vector real[], threshold double precision,
    window_hours double precision)
ON CONFLICT DO NOTHING
"""

KEEP_RULES: Final = """
INSERT INTO enrichment_redactions (camera_id, as_of, cutoff, kept)
SELECT camera_id, as_of, cutoff, kept
FROM json_to_recordset(%(rows)s::json) AS r (
    camera_id text, as_of timestamptz, cutoff timestamptz, kept text[])
ON CONFLICT DO NOTHING
"""

# As its event goes, so go the words about it that were known when that was decided.
DELETE: Final = """
DELETE FROM enrichments e USING enrichment_redactions r
WHERE r.as_of >= %(since)s AND e.camera_id = r.camera_id AND e.ended_at < r.cutoff
  AND e.closed_at < r.cutoff AND e.recorded_at < r.as_of AND e.event_id <> ALL (r.kept)
RETURNING e.event_id
"""

DROP_ORPHANS: Final = """
DELETE FROM sightings s WHERE s.event_id = ANY (%(events)s)
  AND NOT EXISTS (SELECT FROM enrichments e WHERE e.event_id = s.event_id AND e.service = 'clip')
RETURNING id
"""

_Event = EventCaptioned | ObjectsEmbedded | ObjectsDescribed | EventNotEnriched
_KINDS: Final = (EventCaptioned, ObjectsEmbedded, ObjectsDescribed, EventNotEnriched)


class _Word(msgspec.Struct, frozen=True, kw_only=True):
    event_id: str
    service: str
    camera_id: str
    ended_at: datetime
    closed_at: datetime
    recorded_at: datetime
    enriched: bool
    code: str | None
    why: str | None
    picture_id: str | None
    caption: str | None
    objects: tuple[ObjectAttributes, ...] | None
    model: str | None
    model_version: str | None
    seconds: float | None
    ms: int
    seq: int


class _Sighting(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    detection_id: str
    event_id: str
    camera_id: str
    picture_id: str
    captured_at: datetime
    kind: str
    label: str
    confidence: float
    x: float
    y: float
    width: float
    height: float
    model: str
    model_version: str
    vector: list[int]
    threshold: float
    window_hours: float


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    camera_id: str
    as_of: datetime
    cutoff: datetime
    kept: tuple[str, ...]


class Enrichment:
    """Read model of the optional services' words, the sightings and their entities."""

    name = "enrichment"
    version = 1
    streams = ("enrichments", "assessments")
    tables = ("enrichments", "sightings", "enrichment_redactions")

    def __init__(self, *, pgvector: bool = True) -> None:
        """`pgvector=False` does without it where the server has it."""
        self._pgvector = pgvector

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Write the words, forget what retention took, then link the sightings anew."""
        run = Run(envelopes)
        last = {(word.event_id, word.service): (word, event) for event, word in _words(run)}
        await write_rows(connection, UPSERT, [word for word, _ in last.values()])
        looks = [pair for (_, service), pair in last.items() if service == "clip"]
        fresh, gone = await _replace_sightings(connection, looks)
        told = reversed(list(run.of(RetentionApplied)))  # Told twice, the first telling stands.
        rules = {(e.camera_id, e.as_of): _rule(e) for e, _ in told}
        await write_rows(connection, KEEP_RULES, list(rules.values()))
        if last or rules:
            redacted = await _redact(connection, envelopes)
            fresh, gone = fresh - redacted, gone | redacted
        await relink(connection, fresh, gone, pgvector=self._pgvector)


async def _replace_sightings(
    connection: Connection, looks: Sequence[tuple[_Word, _Event]]
) -> tuple[set[str], set[str]]:
    """Make the sightings those of the last words; return which were inserted and which deleted."""
    if not looks:
        return set(), set()
    values = {
        "events": [word.event_id for word, _ in looks],
        "ms": [word.ms for word, _ in looks],
        "seq": [word.seq for word, _ in looks],
    }
    cursor = await connection.execute(CURRENT, values)
    current = {row[0] for row in await cursor.fetchall()}
    gone = await _returned(connection, DROP_SIGHTINGS, {"events": list(current)})
    rows = [
        row
        for _, event in looks
        if isinstance(event, ObjectsEmbedded) and event.event_id in current
        for row in _sightings(event)
    ]
    await write_rows(connection, INSERT_SIGHTINGS, rows)
    return {row.id for row in rows}, gone


async def _redact(connection: Connection, envelopes: Sequence[Envelope]) -> set[str]:
    """Delete what the rules take that may hold for this run; return the deleted sightings.

    Only a rule decided after the oldest of these envelopes was recorded can.
    """
    since = min(
        each.event.as_of if isinstance(each.event, RetentionApplied) else each.recorded_at
        for each in envelopes
    )
    events = await _returned(connection, DELETE, {"since": since})
    if not events:
        return set()
    return await _returned(connection, DROP_ORPHANS, {"events": list(events)})


async def _returned(
    connection: Connection, statement: LiteralString, values: dict[str, object]
) -> set[str]:
    cursor = await connection.execute(statement, values)
    return {row[0] for row in await cursor.fetchall()}


def _words(run: Run) -> Iterator[tuple[_Event, _Word]]:
    """Give what the services said, in the log's order."""
    for envelope in run.in_order(*_KINDS):
        match envelope.event:
            case EventCaptioned() as event:
                yield event, _added("florence", event, envelope)
            case ObjectsEmbedded() as event:
                yield event, _added("clip", event, envelope)
            case ObjectsDescribed() as event:
                yield event, _added("enrichment", event, envelope)
            case EventNotEnriched() as event:
                yield event, _left_out(event, envelope)
            case _:
                continue


def _added(
    service: str, event: EventCaptioned | ObjectsEmbedded | ObjectsDescribed, envelope: Envelope
) -> _Word:
    captioned = event if isinstance(event, EventCaptioned) else None
    return _Word(
        event_id=event.event_id,
        service=service,
        camera_id=event.camera_id,
        ended_at=event.ended_at,
        closed_at=event.closed_at,
        recorded_at=envelope.recorded_at,
        enriched=True,
        code=None,
        why=None,
        picture_id=captioned.picture_id if captioned else None,
        caption=captioned.caption if captioned else None,
        objects=event.objects if isinstance(event, ObjectsDescribed) else None,
        model=event.model,
        model_version=event.model_version,
        seconds=event.seconds,
        ms=envelope.position.ms,
        seq=envelope.position.seq,
    )


def _left_out(event: EventNotEnriched, envelope: Envelope) -> _Word:
    return _Word(
        event_id=event.event_id,
        service=event.service,
        camera_id=event.camera_id,
        ended_at=event.ended_at,
        closed_at=event.closed_at,
        recorded_at=envelope.recorded_at,
        enriched=False,
        code=event.code,
        why=event.why,
        picture_id=None,
        caption=None,
        objects=None,
        model=event.model,
        model_version=event.model_version,
        seconds=None,
        ms=envelope.position.ms,
        seq=envelope.position.seq,
    )


def _sightings(event: ObjectsEmbedded) -> list[_Sighting]:
    found = {
        seen.detection_id: _Sighting(
            id=ids.sighting_id(event.event_id, seen.detection_id),
            detection_id=seen.detection_id,
            event_id=event.event_id,
            camera_id=event.camera_id,
            picture_id=seen.picture_id,
            captured_at=seen.captured_at,
            kind=seen.kind,
            label=seen.box.label,
            confidence=seen.box.score,
            x=seen.box.x,
            y=seen.box.y,
            width=seen.box.width,
            height=seen.box.height,
            model=event.model,
            model_version=event.model_version,
            vector=np.frombuffer(seen.vector, "<i2").tolist(),
            threshold=event.threshold,
            window_hours=event.window_hours,
        )
        for seen in event.sightings
        if any(seen.vector) and len(seen.vector) % 2 == 0
    }
    return list(found.values())


def _rule(event: RetentionApplied) -> _Rule:
    return _Rule(
        camera_id=event.camera_id,
        as_of=event.as_of,
        cutoff=event.cutoff,
        kept=event.kept_event_ids,
    )
