"""The last minutes of GPU readings in memory: for the live feed, and while PostgreSQL is away."""

import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from domain.events import SYSTEM, GpuReading, GpuSampled
from projections.rows import GpuSampleRow, GpuSourceRow
from streams.envelope import Envelope


class GpuHistory:
    """GPU samples of every host; never more than minutes x 60 / interval of each."""

    def __init__(self, *, minutes: int, interval_seconds: float) -> None:
        self._span = timedelta(minutes=minutes)
        self._most = max(1, math.floor(minutes * 60 / interval_seconds))
        self._hosts: dict[str, deque[GpuSampled]] = {}

    def hear(self, envelope: Envelope) -> None:
        """Keep the envelope's sample, if it is one."""
        if isinstance(envelope.event, GpuSampled):
            self.add(envelope.event)

    def add(self, sample: GpuSampled) -> None:
        """Keep a sample and let go of what is too old or too much."""
        ring = self._hosts.setdefault(sample.host, deque(maxlen=self._most))
        ring.append(sample)
        while sample.sampled_at - ring[0].sampled_at > self._span:
            ring.popleft()

    def prime(self, rows: Iterable[GpuSampleRow], sources: Iterable[GpuSourceRow]) -> None:
        """Take over what the read model knows from before this process started."""
        samples: dict[tuple[datetime, str], list[GpuReading]] = {}
        for row in rows:
            samples.setdefault((row.sampled_at, row.host), []).append(_reading(row))
        for source in sources:
            # A host without a GPU has no reading, only the word that it has none.
            if source.source == "none":
                samples.setdefault((source.sampled_at, source.host), [])
        for (at, host), gpus in sorted(samples.items(), key=lambda item: item[0]):
            self.add(
                GpuSampled(
                    camera_id=SYSTEM,
                    host=host,
                    sampled_at=at,
                    source="nvml" if gpus else "none",
                    gpus=tuple(gpus),
                )
            )

    def newest(self) -> list[GpuSampled]:
        """Return the newest sample of each host, by host."""
        return [ring[-1] for _, ring in sorted(self._hosts.items())]

    def rows(self, *, since: datetime | None, limit: int) -> list[GpuSampleRow]:
        """Return the newest `limit` readings after `since`, oldest first."""
        begin = since or datetime.min.replace(tzinfo=UTC)
        found = [
            row
            for ring in self._hosts.values()
            for sample in ring
            if sample.sampled_at >= begin
            for row in sample_rows(sample)
        ]
        found.sort(key=lambda row: (row.sampled_at, row.host, row.gpu_index))
        return found[-limit:]


def sample_rows(sample: GpuSampled) -> list[GpuSampleRow]:
    """Return a sample as the read model has it: one row a GPU."""
    return [
        GpuSampleRow(
            host=sample.host,
            gpu_index=gpu.index,
            sampled_at=sample.sampled_at,
            source=sample.source,
            name=gpu.name,
            utilization_percent=gpu.utilization_percent,
            memory_used_mib=gpu.memory_used_mib,
            memory_total_mib=gpu.memory_total_mib,
            temperature_celsius=gpu.temperature_celsius,
            power_watts=gpu.power_watts,
        )
        for gpu in sample.gpus
    ]


def _reading(row: GpuSampleRow) -> GpuReading:
    return GpuReading(
        index=row.gpu_index,
        name=row.name,
        utilization_percent=row.utilization_percent,
        memory_used_mib=row.memory_used_mib,
        memory_total_mib=row.memory_total_mib,
        temperature_celsius=row.temperature_celsius,
        power_watts=row.power_watts,
    )
