"""Routes of retention: what a run would delete, run it now, how the last one went."""

from datetime import UTC, datetime

import msgspec
from aiohttp import web

from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from projections.retention import Retention, figures_of
from streams.holding import HeldElsewhereError

routes = Routes("retention")


class CleanupQuery(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/system/cleanup."""

    dry_run: bool = False


class CleanupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted, or would be."""

    events_deleted: int
    detections_deleted: int
    gpu_stats_deleted: int
    logs_deleted: int
    """Records that were older than LOG_RETENTION_DAYS."""
    thumbnails_deleted: int
    """Always 0: thumbnails are made when they are asked for, none is kept on disk."""
    images_deleted: int
    clips_deleted: int
    """Clips that were made of events' pictures."""
    space_reclaimed: int
    """Bytes of the pictures' files and the clips."""
    retention_days: int
    dry_run: bool
    timestamp: datetime


class CleanupRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was finished."""

    started_at: datetime
    finished_at: datetime
    cutoff: datetime
    """What happened before this moment is gone."""
    events_deleted: int
    detections_deleted: int
    gpu_stats_deleted: int
    logs_deleted: int
    images_deleted: int
    clips_deleted: int
    space_reclaimed: int


class CleanupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/cleanup/status."""

    retention_days: int
    running: bool
    """A run was begun and is not finished (the next one finishes what was cut off)."""
    next_run: datetime
    last_run: CleanupRun | None


@routes.post("/api/system/cleanup", CleanupAnswer, role="admin", problems=["cleanup_running"])
async def cleanup(request: web.Request, query: CleanupQuery) -> web.Response:
    """Delete what is older than RETENTION_DAYS, or only say how much that is."""
    retention = _retention(request)
    now = _now()
    if query.dry_run:
        found = await retention.plan(now)
    else:
        try:
            found = figures_of(await retention.run(now))
        except HeldElsewhereError as error:
            raise ProblemError("cleanup_running", str(error)) from error
    return answer(
        CleanupAnswer(
            events_deleted=found.events,
            detections_deleted=found.detections,
            gpu_stats_deleted=found.gpu_samples,
            logs_deleted=found.logs,
            thumbnails_deleted=0,
            images_deleted=found.images,
            clips_deleted=found.clips,
            space_reclaimed=found.bytes,
            retention_days=retention.days,
            dry_run=query.dry_run,
            timestamp=now,
        )
    )


@routes.get("/api/system/cleanup/status", CleanupStatus)
async def status(request: web.Request) -> web.Response:
    """Answer how the last run went and when the next is due."""
    retention = _retention(request)
    last = await retention.last_run()
    return answer(
        CleanupStatus(
            retention_days=retention.days,
            running=await retention.unfinished_run() is not None,
            next_run=retention.next_due(_now()),
            last_run=None
            if last is None
            else CleanupRun(
                started_at=last.as_of,
                finished_at=last.finished_at,
                cutoff=last.cutoff,
                events_deleted=last.events_deleted,
                detections_deleted=last.detections_deleted,
                gpu_stats_deleted=last.gpu_stats_deleted,
                logs_deleted=last.logs_deleted,
                images_deleted=last.images_deleted,
                clips_deleted=last.clips_deleted,
                space_reclaimed=last.space_reclaimed,
            ),
        )
    )


def _retention(request: web.Request) -> Retention:
    return request.app[SERVICES].retention


def _now() -> datetime:
    return datetime.now(UTC)
