"""Every read the API makes; ledger and system have files of their own."""

from dataclasses import asdict
from typing import Final, TypeVar

from psycopg.sql import SQL

from projections.access_queries import AccessQueries
from projections.cursor import Cursor
from projections.dead_letter_queries import DeadLetterQueries
from projections.enrichment_queries import EnrichmentQueries
from projections.event_queries import EventQueries
from projections.ledger_queries import LedgerQueries
from projections.lineage_queries import LineageQueries
from projections.log_table import LogQueries
from projections.metric_queries import MetricQueries
from projections.paging import page_conditions, page_of, page_values
from projections.rows import (
    CameraRow,
    DetectionFilter,
    DetectionRow,
    Page,
)
from projections.scene_change_queries import SceneChangeQueries
from projections.search_queries import SearchQueries
from projections.silence_queries import SilenceQueries
from projections.storage_queries import StorageQueries
from projections.system_queries import SystemQueries
from projections.timeline_queries import TimelineQueries
from projections.trial_queries import TrialQueries
from projections.unverified_queries import UnverifiedQueries

T = TypeVar("T")

CAMERA_COLUMNS: Final = SQL(
    """id, name, folder, source, enabled, entry_point, when_unavailable, scene_change_threshold,
    confirmed, created_at, removed_at, last_seen_at, last_file_at"""
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

DETECTION_COLUMNS: Final = SQL(
    """id, picture_id, file_id, camera_id, captured_at, label, confidence, x, y, width, height,
    model, model_version, fallback"""
)

DETECTION: Final = SQL("SELECT {} FROM detections WHERE id = %(id)s").format(DETECTION_COLUMNS)

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


class Queries(
    LedgerQueries,
    DeadLetterQueries,
    LineageQueries,
    SystemQueries,
    TimelineQueries,
    EnrichmentQueries,
    AccessQueries,
    LogQueries,
    MetricQueries,
    EventQueries,
    SearchQueries,
    SilenceQueries,
    StorageQueries,
    TrialQueries,
    UnverifiedQueries,
    SceneChangeQueries,
):
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
