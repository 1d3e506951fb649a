"""Every read the API makes."""

from collections.abc import Mapping
from datetime import datetime

from projections.database import Pool
from projections.rows import (
    CameraRow,
    DetectionFilter,
    DetectionRow,
    EventDetail,
    EventFilter,
    EventRow,
    FileDetail,
    FileRow,
    GpuSampleRow,
    GpuSourceRow,
    Page,
    PictureRow,
    ServiceStateRow,
    StateCount,
)
from streams.envelope import Position

# SIGNATURES ONLY (bodies follow within the hour; names and types stay)


class Queries:
    def __init__(self, pool: Pool) -> None: ...

    async def cameras(self, *, include_removed: bool = False) -> list[CameraRow]: ...
    async def camera(self, camera_id: str) -> CameraRow | None: ...

    async def events(
        self, wanted: EventFilter, *, limit: int, after: str | None = None
    ) -> Page[EventRow]: ...
    async def event(self, event_id: str) -> EventDetail | None: ...

    async def detections(
        self, wanted: DetectionFilter, *, limit: int, after: str | None = None
    ) -> Page[DetectionRow]: ...
    async def detection(self, detection_id: str) -> DetectionRow | None: ...

    async def picture(self, picture_id: str) -> PictureRow | None: ...
    async def file(self, file_id: str) -> FileDetail | None: ...
    async def file_counts(self, *, camera_id: str | None = None) -> list[StateCount]: ...

    async def gpu_sources(self) -> list[GpuSourceRow]: ...
    async def gpu_latest(self) -> list[GpuSampleRow]: ...
    async def gpu_history(
        self, *, since: datetime | None = None, limit: int = 300
    ) -> list[GpuSampleRow]: ...  # ascending time, the newest `limit`
    async def service_states(self) -> list[ServiceStateRow]: ...

    async def projections(self) -> list[str]: ...  # names that have checkpoints
    async def checkpoint(self, projection: str) -> Mapping[tuple[str, int], Position]: ...
    async def wait_for(
        self, projection: str, stream: str, partition: int, position: Position, within: float
    ) -> bool: ...  # False: not there after `within` seconds
    async def ping(self) -> None: ...  # raises ServiceUnavailableError("database") when away

    # Bad cursor -> projections.cursor.BadCursorError (PermanentError).
    # PostgreSQL away -> domain.errors.ServiceUnavailableError("database", …) from every method.
