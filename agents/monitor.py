"""The monitor: what this host's GPUs say, as `gpu.sampled` events on the system stream.

With a GPU there is one event every GPU_POLL_INTERVAL_SECONDS (12 a minute at 5 s). Without one
there is a single event that says `none`, and another only when that changes: a log full of equal
nothings helps nobody, and an idle machine should stay idle.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from domain.errors import TransientError
from domain.events import SYSTEM, GpuReading, GpuSampled
from domain.ids import follow_up_id, instant
from inference.ports import GpuProbe
from streams.envelope import NewEvent, Position

logger = logging.getLogger(__name__)

HELD_SAMPLES = 720
"""Samples kept for a log that does not answer (an hour at 5 s); the oldest go first."""

REOPEN_SECONDS = 60.0
"""How often a host without a GPU is asked again: a driver may be loaded late."""


class SampleLog(Protocol):
    """The part of the event log that the monitor needs."""

    async def append_all(self, news: list[NewEvent]) -> list[Position]:
        """Append events in order; raises TransientError while the log is away."""
        ...


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Who is sampled, and how often."""

    host: str
    interval_seconds: float


class Monitor:
    """Samples the GPUs of one host until it is told to stop."""

    def __init__(
        self, log: SampleLog, open_probe: Callable[[], GpuProbe], settings: MonitorSettings
    ) -> None:
        self._log = log
        self._open_probe = open_probe
        self._settings = settings
        self.interval_seconds = settings.interval_seconds
        """GPU_POLL_INTERVAL_SECONDS; a change counts from the next beat on."""
        self._held: deque[NewEvent] = deque(maxlen=HELD_SAMPLES)
        self._told: str | None = None
        """Source of the newest sample that was made."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sample on a fixed beat until `stop` is set."""
        probe = await asyncio.to_thread(self._open_probe)
        opened_at = beat = time.monotonic()
        try:
            while not stop.is_set():
                if probe.source == "none" and time.monotonic() - opened_at >= REOPEN_SECONDS:
                    probe = await asyncio.to_thread(self._open_probe)
                    opened_at = time.monotonic()
                await self._sample(probe)
                beat += self.interval_seconds
                # A beat missed (the machine slept) is not made up for.
                beat = max(beat, time.monotonic())
                await _set_or_at(stop, beat)
        finally:
            probe.close()

    async def _sample(self, probe: GpuProbe) -> None:
        readings = await asyncio.to_thread(probe.read)
        # A probe may lose its driver while it reads, so the source is asked for afterwards.
        source: Literal["nvml", "none"] = "nvml" if probe.source == "nvml" else "none"
        if source == "nvml" or self._told != source:
            self._held.append(self._event(source, readings))
            self._told = source
        await self._flush()

    def _event(self, source: Literal["nvml", "none"], gpus: tuple[GpuReading, ...]) -> NewEvent:
        now = datetime.now(UTC)
        host = self._settings.host
        sampled = GpuSampled(camera_id=SYSTEM, host=host, sampled_at=now, source=source, gpus=gpus)
        new_id = follow_up_id(f"{host}@{instant(now)}", GpuSampled.TAG)
        return NewEvent(id=new_id, event=sampled, correlation_id=new_id)

    async def _flush(self) -> None:
        """Append what is held; while the log is away it waits for the next beat."""
        if not self._held:
            return
        try:
            await self._log.append_all(list(self._held))
        except TransientError as error:
            logger.warning("%d GPU samples wait for the log: %s", len(self._held), error)
            return
        self._held.clear()


async def _set_or_at(stop: asyncio.Event, deadline: float) -> None:
    """Return when `stop` is set, at the latest at `deadline` of the monotonic clock."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await stop.wait()
    except TimeoutError:
        return
