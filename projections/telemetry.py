"""Telemetry: what the GPUs said, and the state of the services the stages depend on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import GpuSampled, ModelFacts, RetentionFinished, ServiceStateChanged
from projections.database import Connection
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

INSERT_SAMPLES: Final = """
INSERT INTO gpu_samples (
    host, gpu_index, sampled_at, source, name, utilization_percent, memory_used_mib,
    memory_total_mib, temperature_celsius, power_watts)
SELECT
    host, gpu_index, sampled_at, source, name, utilization_percent, memory_used_mib,
    memory_total_mib, temperature_celsius, power_watts
FROM json_to_recordset(%(rows)s::json) AS r (
    host text, gpu_index bigint, sampled_at timestamptz, source text, name text,
    utilization_percent double precision, memory_used_mib double precision,
    memory_total_mib double precision, temperature_celsius double precision,
    power_watts double precision)
ON CONFLICT DO NOTHING
"""

# The newest sample of a host says whether it has a GPU to ask at all.
UPSERT_SOURCES: Final = """
INSERT INTO gpu_sources AS s (host, source, sampled_at)
SELECT host, source, sampled_at
FROM json_to_recordset(%(rows)s::json) AS r (host text, source text, sampled_at timestamptz)
ON CONFLICT (host) DO UPDATE SET source = EXCLUDED.source, sampled_at = EXCLUDED.sampled_at
WHERE EXCLUDED.sampled_at > s.sampled_at
"""

# All of these events lie in one partition (camera id `system`), so positions can be compared.
UPSERT_SERVICES: Final = """
INSERT INTO service_states AS s (
    service, status, message, changed_at, paused_stages, model, changed)
SELECT service, status, message, changed_at, paused_stages, model, changed
FROM json_to_recordset(%(rows)s::json) AS r (
    service text, status text, message text, changed_at timestamptz, paused_stages text[],
    model jsonb, changed bigint[])
ON CONFLICT (service) DO UPDATE SET
    status = EXCLUDED.status, message = EXCLUDED.message, changed_at = EXCLUDED.changed_at,
    paused_stages = EXCLUDED.paused_stages, model = EXCLUDED.model, changed = EXCLUDED.changed
WHERE EXCLUDED.changed > s.changed
"""

INSERT_RUNS: Final = """
INSERT INTO retention_runs (
    as_of, cutoff, finished_at, retention_days, events_deleted, detections_deleted,
    gpu_stats_deleted, images_deleted, space_reclaimed, logs_deleted, clips_deleted)
SELECT
    as_of, cutoff, finished_at, retention_days, events_deleted, detections_deleted,
    gpu_stats_deleted, images_deleted, space_reclaimed, COALESCE(logs_deleted, 0),
    COALESCE(clips_deleted, 0)
FROM json_to_recordset(%(rows)s::json) AS r (
    as_of timestamptz, cutoff timestamptz, finished_at timestamptz, retention_days bigint,
    events_deleted bigint, detections_deleted bigint, gpu_stats_deleted bigint,
    images_deleted bigint, space_reclaimed bigint, logs_deleted bigint, clips_deleted bigint)
ON CONFLICT DO NOTHING
"""

# No reading from before the newest cut-off is ever shown again, whatever is replayed.
DELETE_SAMPLES: Final = """
DELETE FROM gpu_samples WHERE sampled_at < (SELECT max(cutoff) FROM retention_runs)
"""


class _Sample(msgspec.Struct, frozen=True):
    host: str
    gpu_index: int
    sampled_at: datetime
    source: str
    name: str | None
    utilization_percent: float | None
    memory_used_mib: float | None
    memory_total_mib: float | None
    temperature_celsius: float | None
    power_watts: float | None


class _Source(msgspec.Struct, frozen=True):
    host: str
    source: str
    sampled_at: datetime


class _Service(msgspec.Struct, frozen=True):
    service: str
    status: str
    message: str
    changed_at: datetime
    paused_stages: tuple[str, ...] | None
    model: ModelFacts | None
    changed: tuple[int, int]


class Telemetry:
    """Read model of GPU samples and service states."""

    name = "telemetry"
    version = 1
    streams = ("system",)
    tables = ("gpu_samples", "gpu_sources", "service_states", "retention_runs")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert the samples; keep the newest word of each host and service."""
        run = Run(envelopes)
        samples: dict[tuple[str, int, datetime], _Sample] = {}
        sources: dict[str, _Source] = {}
        for event, _ in run.of(GpuSampled):
            for row in _samples(event):
                samples.setdefault((row.host, row.gpu_index, row.sampled_at), row)
            old = sources.get(event.host)
            if old is None or event.sampled_at > old.sampled_at:
                sources[event.host] = _Source(event.host, event.source, event.sampled_at)
        await write_rows(connection, INSERT_SAMPLES, list(samples.values()))
        await write_rows(connection, UPSERT_SOURCES, list(sources.values()))
        await write_rows(connection, UPSERT_SERVICES, _services(run))
        runs = {event.as_of: event for event, _ in run.of(RetentionFinished)}
        await write_rows(connection, INSERT_RUNS, list(runs.values()))
        if samples or runs:
            await connection.execute(DELETE_SAMPLES)


def _samples(event: GpuSampled) -> list[_Sample]:
    return [
        _Sample(
            event.host,
            gpu.index,
            event.sampled_at,
            event.source,
            gpu.name,
            gpu.utilization_percent,
            gpu.memory_used_mib,
            gpu.memory_total_mib,
            gpu.temperature_celsius,
            gpu.power_watts,
        )
        for gpu in event.gpus
    ]


def _services(run: Run) -> list[_Service]:
    """Return the last word about each service."""
    last = {
        event.service: _Service(
            event.service,
            event.status,
            event.message,
            event.changed_at,
            event.paused_stages,
            event.model,
            envelope.position,
        )
        for event, envelope in run.of(ServiceStateChanged)
    }
    return list(last.values())
