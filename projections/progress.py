"""How far each projection is: versions, checkpoint, lag and rate."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from psycopg import errors as pg

from projections.checkpoints import Checkpoints, Cursors
from projections.database import Pool
from projections.read_model import ReadModel
from projections.runner import SchemaMissingError
from projections.versions import Version, versions_of
from streams.behind import entries_behind
from streams.log import EventLog

COUNTED: Final = 10_000
"""Entries behind a checkpoint are counted up to here in each lane."""


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """The checkpoint in one partition of one stream."""

    stream: str
    partition: int
    position: str
    behind: int


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How far one projection is."""

    projection: str
    version: int
    rule_version: int
    kept: int | None
    """The version that `rollback` switches to."""
    building: int | None
    """The version that a rebuild is making, or left unfinished."""
    building_events: int
    lag_entries: int
    lag_is_more: bool
    """The lag is more than was counted."""
    lag_seconds: float
    """Age of the oldest entry that is not applied yet; 0 when there is none."""
    rate_per_s: float
    """Entries applied in the last second, as far as they were counted."""
    checkpoint: tuple[LaneStatus, ...]


class Status:
    """Looks at checkpoints and the log side by side; writes nothing but what is missing."""

    def __init__(self, log: EventLog, pool: Pool) -> None:
        self._log = log
        self._pool = pool

    async def of(
        self, models: Sequence[ReadModel], *, seconds: float = 1.0
    ) -> list[ProjectionStatus]:
        """Return where the projections stand; takes `seconds` to see how fast they move."""
        try:
            before = [await self._cursors(model) for model in models]
            await asyncio.sleep(seconds)
            return [
                await self._status(model, cursors, seconds)
                for model, cursors in zip(models, before, strict=True)
            ]
        except (pg.UndefinedTable, pg.UndefinedColumn) as error:
            message = f"the database lacks what this version needs ({error}): run `hsi migrate`"
            raise SchemaMissingError(message) from error

    async def _cursors(self, model: ReadModel) -> Cursors:
        lanes = [(stream, p) for stream in model.streams for p in range(self._log.partitions)]
        async with self._pool.connection() as connection:
            return await Checkpoints.of(model, self._log.incarnation).load(connection, lanes)

    async def _status(self, model: ReadModel, before: Cursors, seconds: float) -> ProjectionStatus:
        async with self._pool.connection() as connection:
            versions = await versions_of(connection, model, self._log.incarnation)
        now_at = await self._cursors(model)
        lanes, applied, oldest, more = [], 0, None, False
        for (stream, partition), position in now_at.items():
            entries = await entries_behind(self._log, stream, partition, position, COUNTED)
            more = more or entries.more
            if entries.count and entries.oldest is not None:
                oldest = min(oldest or entries.oldest, entries.oldest)
            lanes.append(LaneStatus(stream, partition, str(position), entries.count))
            if position > before[stream, partition]:
                old = before[stream, partition]
                since = await entries_behind(self._log, stream, partition, old, COUNTED)
                applied += max(0, since.count - entries.count)
        live, building = versions["live"], versions.get("building") or versions.get("built")
        return ProjectionStatus(
            projection=model.name,
            version=live.version,
            rule_version=live.rule_version,
            kept=_number(versions.get("kept")),
            building=_number(building),
            building_events=building.events if building else 0,
            lag_entries=sum(lane.behind for lane in lanes),
            lag_is_more=more,
            lag_seconds=_age(oldest),
            rate_per_s=applied / seconds,
            checkpoint=tuple(lanes),
        )


def _number(version: Version | None) -> int | None:
    return None if version is None else version.version


def _age(oldest: datetime | None) -> float:
    if oldest is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - oldest).total_seconds())
