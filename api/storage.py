"""Route of the room on disk: what there is, what takes it, and when it will be gone."""

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from projections.storage_queries import TableSize, TakenIn

MEASURED_DAYS: Final = 7
LEAST_MEASURED: Final = timedelta(hours=6)
"""A shorter time says nothing about the days to come."""

_DAY: Final = timedelta(days=1)

routes = Routes("system")


class FolderUse(msgspec.Struct, frozen=True, kw_only=True):
    """How much lies in one place."""

    file_count: int
    size_bytes: int


class DiskUse(msgspec.Struct, frozen=True, kw_only=True):
    """The disk that the cameras' files lie on."""

    path: str
    total_bytes: int
    used_bytes: int
    free_bytes: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the growth of the last days leads to; null is what it does not tell."""

    measured_days: float
    files_per_day: float | None
    growth_bytes_per_day: float | None
    """Of the cameras' files alone, by what was taken in."""
    days_until_full: float | None
    full_at: datetime | None
    bytes_at_retention: int | None
    """What the cameras' files will take once retention deletes as much as comes in."""
    retention_suffices: bool | None
    """Retention begins to delete before the disk is full."""


class StorageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/storage."""

    disk: DiskUse
    images: FolderUse
    clips: FolderUse
    frames: FolderUse | None
    """Frames taken out of videos. No thumbnails are kept on disk."""
    event_clips: FolderUse | None
    """Clips that were made of events' pictures; `clips` are the cameras' own videos."""
    archive: FolderUse | None
    database_bytes: int
    tables: list[TableSize]
    forecast: Forecast
    retention_days: int
    timestamp: datetime


@routes.get("/api/system/storage", StorageAnswer)
async def storage(request: web.Request) -> web.Response:
    """Answer what takes how much room, and for how many days there is room left."""
    services = request.app[SERVICES]
    now = datetime.now(UTC)
    stored = {row.media: row for row in await services.queries.stored_files()}
    taken = await services.queries.taken_in(now - MEASURED_DAYS * _DAY)
    tables = await services.queries.table_sizes()
    disk, frames, archive = await asyncio.to_thread(_on_disk, services)
    made = await asyncio.to_thread(_folder, services.clips.store.folder)
    uses = {
        media: FolderUse(file_count=row.files, size_bytes=row.bytes)
        for media, row in stored.items()
    }
    nothing = FolderUse(file_count=0, size_bytes=0)
    days = services.retention.days
    return answer(
        StorageAnswer(
            disk=disk,
            images=uses.get("image", nothing),
            clips=uses.get("video", nothing),
            frames=frames,
            event_clips=made,
            archive=archive,
            database_bytes=sum(table.bytes for table in tables),
            tables=tables,
            forecast=forecast(
                taken, now, disk.free_bytes, days, sum(use.size_bytes for use in uses.values())
            ),
            retention_days=days,
            timestamp=now,
        )
    )


def forecast(
    taken: TakenIn, now: datetime, free: int, retention_days: int, stored: int
) -> Forecast:
    """Return what the measured growth leads to."""
    span = timedelta(0) if taken.first_at is None else now - taken.first_at
    measured = span / _DAY
    if span < LEAST_MEASURED:
        return Forecast(
            measured_days=round(measured, 2),
            files_per_day=None,
            growth_bytes_per_day=None,
            days_until_full=None,
            full_at=None,
            bytes_at_retention=None,
            retention_suffices=None,
        )
    growth = taken.bytes / measured
    at_retention = round(growth * retention_days)
    full_in = free / growth if growth else None
    suffices = at_retention - stored <= free
    # Farther away than that no date can be written.
    reachable = full_in is not None and full_in < 1_000_000
    return Forecast(
        measured_days=round(measured, 2),
        files_per_day=round(taken.files / measured, 1),
        growth_bytes_per_day=round(growth, 1),
        days_until_full=None if full_in is None or suffices else round(full_in, 1),
        full_at=now + full_in * _DAY if reachable and full_in and not suffices else None,
        bytes_at_retention=at_retention,
        retention_suffices=suffices,
    )


def _on_disk(services: ApiServices) -> tuple[DiskUse, FolderUse | None, FolderUse | None]:
    base = services.config.base_folder
    # A base folder that is away for the moment has no disk; the one above it tells where it was.
    there = next(folder for folder in (base, *base.parents) if folder.is_dir())
    use = shutil.disk_usage(there)
    disk = DiskUse(path=str(base), total_bytes=use.total, used_bytes=use.used, free_bytes=use.free)
    return disk, _folder(services.config.frames_dir), _folder(services.config.archive_dir)


def _folder(folder: Path | None) -> FolderUse | None:
    if folder is None or not folder.is_dir():
        return None
    count = size = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                count += 1
                size += path.stat().st_size
        except OSError:  # It was deleted meanwhile.
            continue
    return FolderUse(file_count=count, size_bytes=size)
