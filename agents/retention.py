"""Retention: once a day, at 03:00 in the cameras' time zone, delete what is too old.

The same run archives the log and trims it. A run that was missed while everything was down, or
was cut off, is made up for at the start.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from domain.errors import ServiceUnavailableError, TransientError
from projections.database import open_pool
from projections.queries import Queries
from projections.retention import ClipFiles, PictureFiles, Retention
from projections.retention_queries import RetentionQueries
from projections.upkeep import Upkeep, UpkeepOptions
from runtime.tasks import unless_stopped
from streams.holding import HeldElsewhereError
from streams.log import EventLog
from streams.segments import ArchiveError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""How often the clock is looked at, and how long to wait after something was away."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Days:
    """For how many days things are kept."""

    all: Callable[[], int]
    """RETENTION_DAYS as it is now."""
    logs: int
    """LOG_RETENTION_DAYS."""


class RetentionRole:
    """Runs retention and upkeep when they are due."""

    def __init__(
        self,
        retention: Retention,
        upkeep: Upkeep,
        *,
        now: Callable[[], datetime] = _now,
        days: Days | None = None,
    ) -> None:
        """`days` None: as `retention` has it."""
        self._days = days
        self._retention = retention
        self._upkeep = upkeep
        self._now = now
        self._began = now()

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the clock until `stop` is set."""
        while not stop.is_set():
            await unless_stopped(stop, self.look())
            await unless_stopped(stop, asyncio.sleep(LOOK_SECONDS))

    async def look(self) -> bool:
        """Do what is due; return whether anything was. What is away is waited for."""
        try:
            if not await self._retention.is_due(self._now(), self._began):
                return False
            if self._days is not None:
                self._retention.keep_days(self._days.all())
            await self._upkeep_first()
            done = await self._retention.run(self._now())
        except HeldElsewhereError:
            return False  # Whoever does it finishes it, or the next look does.
        except (ServiceUnavailableError, TransientError) as error:
            logger.warning("retention waits: %s", error)
            return False
        logger.info(
            "retention deleted %d events, %d detections, %d GPU readings, %d pictures and %d "
            "clips of before %s (%d bytes), and %d log records",
            done.events_deleted,
            done.detections_deleted,
            done.gpu_stats_deleted,
            done.images_deleted,
            done.clips_deleted,
            done.cutoff.isoformat(timespec="minutes"),
            done.space_reclaimed,
            done.logs_deleted,
            extra={"action": "retention"},
        )
        return True

    async def _upkeep_first(self) -> None:
        try:
            kept = await self._upkeep.run(self._now())
        except ArchiveError as error:
            # Retention goes on; nothing is trimmed that is not archived.
            logger.error("the log is not archived: %s", error, extra={"action": "archive"})
            return
        logger.info(
            "archived %d entries, trimmed %d",
            kept.archived.entries,
            kept.trimmed,
            extra={"action": "archive"},
        )


@dataclass(frozen=True, slots=True)
class Files:
    """Where lies what a run deletes."""

    pictures: PictureFiles
    clips: ClipFiles


def run_retention(
    log: EventLog,
    database_url: str,
    files: Files,
    options: UpkeepOptions,
    *,
    days: Days,
    zone: ZoneInfo,
) -> Callable[[asyncio.Event], Awaitable[None]]:
    """Return the role, put together, as a task that runs until its event is set."""

    async def run(stop: asyncio.Event) -> None:
        pool = await open_pool(database_url, name="retention", max_size=2)
        try:
            queries = RetentionQueries(pool)
            reads = Queries(pool)
            retention = Retention(log, queries, reads, files.pictures, days=days.all(), zone=zone)
            retention.keep_log_days(days.logs)
            retention.also_delete(files.clips)
            role = RetentionRole(retention, Upkeep(log, queries, options), days=days)
            await role.run(stop)
        finally:
            await pool.close()

    return run
