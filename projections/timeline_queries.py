"""The two reads of events that every client does most: a page of the list, and one with its chain.

Each is one statement and one round trip: PostgreSQL puts the rows together as JSON, which is
decoded into the same structs that other queries answer.
"""

from dataclasses import asdict
from functools import lru_cache
from typing import Final, get_args

import msgspec
from psycopg.sql import SQL, Composed, Identifier, Literal

from domain.events import Level
from projections.cursor import Cursor
from projections.enrichment_queries import SightingRow, WordRow
from projections.event_rows import EVENT_CONDITIONS
from projections.ledger_queries import FILE_COLUMNS, PICTURE_COLUMNS
from projections.paging import page_conditions, page_of, page_values
from projections.prepared import Prepared
from projections.reading import Reader
from projections.rows import DetectionRow, EventDetail, EventFilter, EventRow, Page
from projections.scope import cameras_seen, rows_seen


class EventWhole(EventDetail, frozen=True, kw_only=True):
    """An event with its chain, and what optional services added to it."""

    words: list[WordRow]
    sightings: list[SightingRow]


def _columns(row: type[msgspec.Struct]) -> Composed:
    return SQL(", ").join(map(Identifier, row.__struct_fields__))


# stage is NULL while only a review of the event has been applied.
EVENT: Final = " ".join(
    SQL(
        """
WITH e AS (SELECT {event} FROM events WHERE id = %(id)s AND stage IS NOT NULL),
members AS (SELECT unnest(picture_ids) AS picture_id FROM e),
p AS (
    SELECT {picture} FROM picture_states
    WHERE picture_id = ANY (ARRAY(SELECT picture_id FROM members))),
d AS (
    SELECT {detection} FROM detections
    WHERE picture_id = ANY (ARRAY(SELECT picture_id FROM members))),
f AS (SELECT {file} FROM file_states WHERE file_id = ANY (ARRAY(SELECT file_id FROM p))),
w AS (SELECT {word} FROM enrichments WHERE event_id = %(id)s),
s AS (SELECT {sighting} FROM sightings WHERE event_id = %(id)s)
SELECT json_build_object(
    'event', e,
    'pictures', (SELECT COALESCE(json_agg(p ORDER BY captured_at, picture_id), '[]') FROM p),
    'detections', (SELECT COALESCE(json_agg(
        d ORDER BY captured_at, picture_id, confidence DESC, id), '[]') FROM d),
    'files', (SELECT COALESCE(json_agg(f ORDER BY received_at, file_id), '[]') FROM f),
    'words', (SELECT COALESCE(json_agg(w ORDER BY service), '[]') FROM w),
    'sightings', (SELECT COALESCE(json_agg(s ORDER BY confidence DESC, id), '[]') FROM s))::text
FROM e
"""
    )
    .format(
        event=_columns(EventRow),
        picture=PICTURE_COLUMNS,
        detection=_columns(DetectionRow),
        file=FILE_COLUMNS,
        word=_columns(WordRow),
        sighting=_columns(SightingRow),
    )
    .as_string()
    .split()
).encode()

EVENTS_PAGE: Final = SQL(
    """SELECT COALESCE(json_agg(e), '[]')::text FROM (
    SELECT {columns} FROM events WHERE stage IS NOT NULL AND {conditions}
    ORDER BY started_at DESC, id DESC LIMIT %(limit)s) e"""
)

# Runs of an index in which events lie in the order of the list, one for each combination of level,
# reviewed and fast path that is wanted (migrations 0019 and 0025): the page of each, and of those
# the page of all. `id = ANY` keeps the planner from reading events before it is known which come
# into the page.
EVENTS_PAGE_BY_RUNS: Final = SQL(
    """SELECT COALESCE(json_agg(e), '[]')::text FROM (
    SELECT {columns} FROM events WHERE id = ANY (ARRAY(
        SELECT found.id
        FROM {cameras} unnest({levels}) AS l(level), unnest({reviewed}) AS r(flag),
        unnest({fast}) AS f(flag), LATERAL (
            SELECT id, started_at FROM {table}
            WHERE {of_run} AND risk_level = l.level AND reviewed = r.flag
              AND is_fast_path = f.flag AND {conditions}
            ORDER BY started_at DESC, id DESC LIMIT %(limit)s) found
        ORDER BY found.started_at DESC, found.id DESC LIMIT %(limit)s))
    ORDER BY started_at DESC, id DESC) e"""
)

_LEVELS: Final = SQL("ARRAY[{}]").format(SQL(", ").join(map(Literal, get_args(Level))))
_LEVELS_FROM: Final = SQL(
    """ARRAY(SELECT level FROM unnest({}) AS level WHERE EXISTS (
        SELECT FROM events
        WHERE stage IS NOT NULL AND risk_level = level AND risk_score >= %(min_score)s))"""
)
_BOTH: Final = SQL("ARRAY[false, true]")
_EACH_CAMERA: Final = SQL("unnest(%(cameras_seen)s::text[]) AS c(camera),")
_OF_RUNS: Final = frozenset({"risk_level", "reviewed", "is_fast_path", "object_type"})
"""Filters that are equal within a run; the others cut it."""

_BY_RUNS: Final = _OF_RUNS | {"camera_id", "min_score", "cameras_seen"}

_event = Prepared("hsi_event", EVENT.decode().replace("%(id)s", "$1"))
_columns_of_event = _columns(EventRow)
_whole = msgspec.json.Decoder(EventWhole)
_page = msgspec.json.Decoder(list[EventRow])


class TimelineQueries(Reader):
    """Reads of events."""

    async def events(
        self, wanted: EventFilter, *, limit: int, after: str | None = None
    ) -> Page[EventRow]:
        """Return a page of events, newest first; `after` is the page before's `next_cursor`."""
        values = page_values(asdict(wanted), limit, after)
        seen = cameras_seen()
        if wanted.camera_id is not None and seen is not None:
            del values["camera_id"]
            values["cameras_seen"] = [each for each in seen if each == wanted.camera_id]
        # Planned for these very values each time: how frequent they are decides the way.
        text = await self._text(page_statement(frozenset(values)), values)
        rows = _page.decode(text or "[]")
        return page_of(rows, limit, lambda row: Cursor(row.started_at, row.id))

    async def event(self, event_id: str) -> EventWhole | None:
        """Return an event with its pictures, their detections, its files and what was added."""
        text = await self._prepared(_event, event_id)
        if text is None:
            return None
        whole = _whole.decode(text)
        return whole if rows_seen([whole.event]) else None


@lru_cache(maxsize=256)
def page_statement(given: frozenset[str]) -> bytes:
    """Return the statement of a page for the names of the values that are given."""
    if given & _BY_RUNS:
        statement = _page_by_runs(given)
    else:
        conditions = page_conditions(EVENT_CONDITIONS, given)
        statement = EVENTS_PAGE.format(columns=_columns_of_event, conditions=conditions)
    return " ".join(statement.as_string().split()).encode()


def _page_by_runs(given: frozenset[str]) -> Composed:
    labels, scoped = "object_type" in given, "cameras_seen" in given
    of_run = SQL("label = %(object_type)s") if labels else SQL("stage IS NOT NULL")
    given_level = SQL("ARRAY[%(risk_level)s]::text[]")
    levels = SQL("{}").format(given_level) if "risk_level" in given else _LEVELS
    return EVENTS_PAGE_BY_RUNS.format(
        columns=_columns_of_event,
        table=SQL("event_labels" if labels else "events"),
        of_run=of_run + SQL(" AND camera_id = c.camera") if scoped else of_run,
        conditions=page_conditions(EVENT_CONDITIONS, given - _OF_RUNS - {"cameras_seen"}),
        cameras=_EACH_CAMERA if scoped else SQL(""),
        levels=_LEVELS_FROM.format(levels) if "min_score" in given else levels,
        reviewed=SQL("ARRAY[%(reviewed)s]::boolean[]") if "reviewed" in given else _BOTH,
        fast=SQL("ARRAY[%(is_fast_path)s]::boolean[]") if "is_fast_path" in given else _BOTH,
    )
