"""Queries about the system itself: GPUs, services, and how far the read models are."""

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec
from psycopg.rows import TupleRow
from psycopg.sql import SQL

from domain.events import ModelFacts
from projections.reading import Parameters, Reader, Statement
from projections.rows import GpuSampleRow, GpuSourceRow, ServiceStateRow, Totals
from streams.envelope import Position

SAMPLE_COLUMNS: Final = SQL(
    """g.host, g.gpu_index, g.sampled_at, g.source, g.name, g.utilization_percent,
    g.memory_used_mib, g.memory_total_mib, g.temperature_celsius, g.power_watts"""
)

GPU_SOURCES: Final = SQL("SELECT host, source, sampled_at FROM gpu_sources ORDER BY host")

# What each host said last; a GPU that is no longer told of is not shown.
GPU_HISTORY: Final = SQL(
    """
WITH newest AS (
    SELECT * FROM gpu_samples
    WHERE %(since)s::timestamptz IS NULL OR sampled_at >= %(since)s
    ORDER BY sampled_at DESC, host, gpu_index LIMIT %(limit)s)
SELECT {} FROM newest g ORDER BY g.sampled_at, g.host, g.gpu_index
"""
).format(SAMPLE_COLUMNS)

SERVICE_STATES: Final = SQL(
    """SELECT service, status, message, changed_at, paused_stages, model::text AS model
    FROM service_states ORDER BY service"""
)

PROJECTIONS: Final = SQL("SELECT DISTINCT projection FROM checkpoints ORDER BY projection")

CHECKPOINT: Final = SQL(
    """
SELECT stream, partition, ms, seq FROM checkpoints
WHERE projection = %(projection)s
  AND version = (SELECT max(version) FROM checkpoints WHERE projection = %(projection)s)
"""
)

REFUSED: Final = SQL("SELECT projection, count(*) FROM refused_events GROUP BY 1")

TOTALS: Final = SQL(
    """
SELECT
    (SELECT count(*) FROM cameras
     WHERE created_at IS NOT NULL AND removed_at IS NULL) AS cameras,
    (SELECT count(*) FROM events WHERE stage IS NOT NULL) AS events,
    (SELECT count(*) FROM detections) AS detections
"""
)

PING: Final = SQL("SELECT 1")

FIRST_LOOK_SECONDS = 0.005
LONGEST_LOOK_SECONDS = 0.1


_model = msgspec.json.Decoder(ModelFacts)


def _service_state(model: str | None, **columns: Any) -> ServiceStateRow:  # noqa: ANN401 - as stored
    return ServiceStateRow(model=None if model is None else _model.decode(model), **columns)


class SystemQueries(Reader):
    """Reads of telemetry and checkpoints."""

    async def gpu_sources(self) -> list[GpuSourceRow]:
        """Return each host with where its GPU figures come from (`none`: it has no GPU)."""
        return await self._all(GpuSourceRow, GPU_SOURCES)

    async def gpu_history(
        self, *, since: datetime | None = None, limit: int = 300
    ) -> list[GpuSampleRow]:
        """Return the newest `limit` readings since a moment, in ascending time."""
        return await self._all(GpuSampleRow, GPU_HISTORY, {"since": since, "limit": limit})

    async def service_states(self) -> list[ServiceStateRow]:
        """Return the last known state of every service."""
        return await self._all(_service_state, SERVICE_STATES)

    async def projections(self) -> list[str]:
        """Return the names of the projections that have begun."""
        return [name for (name,) in await self._tuples(PROJECTIONS)]

    async def checkpoint(self, projection: str) -> dict[tuple[str, int], Position]:
        """Return how far a projection has applied each (stream, partition)."""
        rows = await self._tuples(CHECKPOINT, {"projection": projection})
        return {(stream, partition): Position(ms, seq) for stream, partition, ms, seq in rows}

    async def wait_for(
        self, projection: str, stream: str, partition: int, position: Position, within: float
    ) -> bool:
        """Wait until a projection has applied `position`; False when `within` seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        look = FIRST_LOOK_SECONDS
        while True:
            reached = (await self.checkpoint(projection)).get((stream, partition))
            if reached is not None and reached >= position:
                return True
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(look, left))
            look = min(look * 2, LONGEST_LOOK_SECONDS)

    async def totals(self) -> Totals:
        """Return how much there is."""
        async with self._connected() as connection:
            cursor = await connection.execute(TOTALS)
            row = await cursor.fetchone()
        cameras, events, detections = row or (0, 0, 0)
        return Totals(cameras=cameras, events=events, detections=detections)

    async def refused(self) -> dict[str, int]:
        """Return how many events each projection passed over because PostgreSQL refused them."""
        return dict(await self._tuples(REFUSED))

    async def ping(self) -> None:
        """Ask for a sign of life; raises ServiceUnavailableError when there is none."""
        await self._tuples(PING)

    async def _tuples(
        self, statement: Statement, parameters: Parameters | None = None
    ) -> list[TupleRow]:
        async with self._connected() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()
