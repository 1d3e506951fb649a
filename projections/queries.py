"""Every read the API makes; ledger and system have files of their own."""

from dataclasses import asdict
from typing import Any, Final, TypeVar

import msgspec
from psycopg.sql import SQL

from domain.events import BatchFacts, Signal
from projections.cursor import Cursor
from projections.dead_letter_queries import DeadLetterQueries
from projections.ledger_queries import FILES, PICTURES, LedgerQueries
from projections.lineage_queries import LineageQueries
from projections.paging import page_conditions, page_of, page_values
from projections.rows import (
    CameraRow,
    DetectionFilter,
    DetectionRow,
    EventDetail,
    EventFilter,
    EventRow,
    FileRow,
    Page,
    PictureRow,
)
from projections.system_queries import SystemQueries

T = TypeVar("T")

CAMERA_COLUMNS: Final = SQL(
    """id, name, folder, source, enabled, entry_point, confirmed, created_at, removed_at,
    last_seen_at, last_file_at"""
)

# created_at is NULL while only files of the camera, not its registration, have been applied.
CAMERAS: Final = SQL(
    """SELECT {} FROM cameras
    WHERE created_at IS NOT NULL AND (%(include_removed)s OR removed_at IS NULL)
    ORDER BY name, id"""
).format(CAMERA_COLUMNS)

CAMERA: Final = SQL("SELECT {} FROM cameras WHERE id = %(id)s AND created_at IS NOT NULL").format(
    CAMERA_COLUMNS
)

EVENT_COLUMNS: Final = SQL(
    """id, batch_id, camera_id, started_at, ended_at, stage, is_fast_path, close_reason,
    picture_ids, labels, risk_score, risk_level, summary, reasoning, rule_score, rule_level,
    floor, rule_summary, rule_reasoning, signals::text AS signals, facts::text AS facts,
    rules_version, assessed_at, model_stage, model_score, model_assessed_score,
    model_assessed_level, model, model_prompt_version, model_prompt_sha256, model_raw_text,
    model_tokens_in, model_tokens_out, model_seconds, model_summary, model_reasoning,
    refined_at, reviewed, notes, reviewed_by, reviewed_at, held"""
)

# stage is NULL while only a review of the event has been applied.
EVENT: Final = SQL("SELECT {} FROM events WHERE id = %(id)s AND stage IS NOT NULL").format(
    EVENT_COLUMNS
)

EVENTS_PAGE: Final = SQL(
    """SELECT {columns} FROM events WHERE stage IS NOT NULL AND {conditions}
    ORDER BY started_at DESC, id DESC LIMIT %(limit)s"""
)

EVENT_CONDITIONS: Final = {
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "risk_level": SQL("risk_level = %(risk_level)s"),
    "min_score": SQL("risk_score >= %(min_score)s"),
    "start": SQL("started_at >= %(start)s"),
    "end": SQL("started_at < %(end)s"),
    "reviewed": SQL("reviewed = %(reviewed)s"),
    "object_type": SQL("labels @> ARRAY[%(object_type)s]::text[]"),
    "is_fast_path": SQL("is_fast_path = %(is_fast_path)s"),
    "after_id": SQL("(started_at, id) < (%(after_at)s, %(after_id)s)"),
}

DETECTION_COLUMNS: Final = SQL(
    """id, picture_id, file_id, camera_id, captured_at, label, confidence, x, y, width, height,
    model, model_version, fallback"""
)

DETECTION: Final = SQL("SELECT {} FROM detections WHERE id = %(id)s").format(DETECTION_COLUMNS)

DETECTIONS_OF_PICTURES: Final = SQL(
    """SELECT {} FROM detections WHERE picture_id = ANY(%(picture_ids)s)
    ORDER BY captured_at, picture_id, confidence DESC, id"""
).format(DETECTION_COLUMNS)

DETECTIONS_PAGE: Final = SQL(
    """SELECT {columns} FROM detections WHERE {conditions}
    ORDER BY captured_at DESC, id DESC LIMIT %(limit)s"""
)

DETECTION_CONDITIONS: Final = {
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "object_type": SQL("label = %(object_type)s"),
    "start": SQL("captured_at >= %(start)s"),
    "end": SQL("captured_at < %(end)s"),
    "min_confidence": SQL("confidence >= %(min_confidence)s"),
    "after_id": SQL("(captured_at, id) < (%(after_at)s, %(after_id)s)"),
}

_signals = msgspec.json.Decoder(list[Signal])
_facts = msgspec.json.Decoder(BatchFacts)


class Queries(LedgerQueries, DeadLetterQueries, LineageQueries, SystemQueries):
    """Every read the API makes.

    Each method raises ServiceUnavailableError("database", …) when PostgreSQL does not answer;
    those that take a cursor raise BadCursorError for a text that no page gave out.
    """

    async def cameras(self, *, include_removed: bool = False) -> list[CameraRow]:
        """Return the cameras by name."""
        return await self._all(CameraRow, CAMERAS, {"include_removed": include_removed})

    async def camera(self, camera_id: str) -> CameraRow | None:
        """Return a camera, also one that was removed."""
        return await self._first(CameraRow, CAMERA, {"id": camera_id})

    async def events(
        self, wanted: EventFilter, *, limit: int, after: str | None = None
    ) -> Page[EventRow]:
        """Return a page of events, newest first; `after` is the page before's `next_cursor`."""
        values = page_values(asdict(wanted), limit, after)
        statement = EVENTS_PAGE.format(
            columns=EVENT_COLUMNS, conditions=page_conditions(EVENT_CONDITIONS, values)
        )
        rows = await self._all(_event_row, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.started_at, row.id))

    async def event(self, event_id: str) -> EventDetail | None:
        """Return an event with its pictures, their detections and the files they came from."""
        event = await self._first(_event_row, EVENT, {"id": event_id})
        if event is None:
            return None
        members = {"picture_ids": event.picture_ids}
        pictures = await self._all(PictureRow, PICTURES, members)
        file_ids = list({picture.file_id for picture in pictures})
        return EventDetail(
            event=event,
            pictures=pictures,
            detections=await self._all(DetectionRow, DETECTIONS_OF_PICTURES, members),
            files=await self._all(FileRow, FILES, {"file_ids": file_ids}),
        )

    async def detections(
        self, wanted: DetectionFilter, *, limit: int, after: str | None = None
    ) -> Page[DetectionRow]:
        """Return a page of detections, newest picture first."""
        values = page_values(asdict(wanted), limit, after)
        statement = DETECTIONS_PAGE.format(
            columns=DETECTION_COLUMNS, conditions=page_conditions(DETECTION_CONDITIONS, values)
        )
        rows = await self._all(DetectionRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.captured_at, row.id))

    async def detection(self, detection_id: str) -> DetectionRow | None:
        """Return one detection."""
        return await self._first(DetectionRow, DETECTION, {"id": detection_id})


def _event_row(signals: str, facts: str, **columns: Any) -> EventRow:  # noqa: ANN401 - as stored
    return EventRow(signals=_signals.decode(signals), facts=_facts.decode(facts), **columns)
