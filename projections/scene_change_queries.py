"""Queries about scene changes."""

from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from domain.events import SceneChangeType, SceneSeverity
from projections.reading import Reader
from projections.rows import Row

COLUMNS: Final = SQL(
    """id, camera_id, detected_at, change_type, severity, similarity_score, structure, threshold,
    picture_id, file_id, file_path, baseline_picture_id, baseline_captured_at, restored_at,
    acknowledged_at IS NOT NULL AS acknowledged, acknowledged_at, acknowledged_by"""
)

SCENE_CHANGES: Final = SQL(
    """SELECT {} FROM scene_changes
    WHERE camera_id = %(camera_id)s AND (%(acknowledged)s::boolean IS NULL
        OR (acknowledged_at IS NOT NULL) = %(acknowledged)s)
    ORDER BY detected_at DESC, id DESC LIMIT %(limit)s"""
).format(COLUMNS)

SCENE_CHANGE: Final = SQL(
    "SELECT {} FROM scene_changes WHERE camera_id = %(camera_id)s AND id = %(id)s"
).format(COLUMNS)


class SceneChangeRow(Row, frozen=True, kw_only=True):
    """A camera no longer looked at what it had looked at."""

    id: str
    camera_id: str
    detected_at: datetime
    """When the picture that shows it was taken."""
    change_type: SceneChangeType
    severity: SceneSeverity
    similarity_score: float
    """SSIM with the baseline, 0 to 1."""
    structure: float
    """Share of the baseline's structure that was still in its place."""
    threshold: float
    """The SCENE_CHANGE_THRESHOLD that counted for the camera."""
    picture_id: str
    file_id: str
    file_path: str
    baseline_picture_id: str
    baseline_captured_at: datetime
    restored_at: datetime | None
    """When a picture showed the baseline's view again; null: none has."""
    acknowledged: bool
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class SceneChangeQueries(Reader):
    """Reads of scene changes."""

    async def scene_changes(
        self, camera_id: str, *, acknowledged: bool | None, limit: int
    ) -> list[SceneChangeRow]:
        """Return a camera's changes, the newest first; None asks for all of them."""
        values = {"camera_id": camera_id, "acknowledged": acknowledged, "limit": limit}
        return await self._all(SceneChangeRow, SCENE_CHANGES, values)

    async def scene_change(self, camera_id: str, change_id: str) -> SceneChangeRow | None:
        """Return one change of a camera."""
        values = {"camera_id": camera_id, "id": change_id}
        return await self._first(SceneChangeRow, SCENE_CHANGE, values)
