"""The monitor: one sample a beat with a GPU, one word without, none lost while Redis is away."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agents import monitor as monitor_module
from agents.monitor import Monitor, MonitorSettings
from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM, GpuReading, GpuSampled
from streams.envelope import NewEvent, Position


@dataclass
class FakeProbe:
    """A probe whose GPUs a test decides."""

    gpus: tuple[GpuReading, ...] = ()
    closed: bool = False

    @property
    def source(self) -> str:
        return "nvml" if self.gpus else "none"

    def read(self) -> tuple[GpuReading, ...]:
        return self.gpus

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeLog:
    """Remembers what is appended; while `away` it takes nothing."""

    away: bool = False
    tried: int = 0
    appended: list[NewEvent] = field(default_factory=list)
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    async def append_all(self, news: Sequence[NewEvent]) -> list[Position]:
        self.tried += 1
        self.grew.set()
        if self.away:
            raise ServiceUnavailableError("redis", "away")
        self.appended += news
        return [Position(1, n) for n in range(len(news))]

    async def until(self, *, tries: int = 0, told: str | None = None) -> None:
        """Wait for so many tries to append, and until the newest sample has source `told`."""
        async with asyncio.timeout(5):
            while self.tried < tries or (told and self.samples[-1].source != told):
                self.grew.clear()
                await self.grew.wait()

    @property
    def samples(self) -> list[GpuSampled]:
        events = [new.event for new in self.appended]
        assert all(isinstance(event, GpuSampled) for event in events)
        return [event for event in events if isinstance(event, GpuSampled)]


FAST = MonitorSettings(host="here", interval_seconds=0.01)
GPU = (GpuReading(index=0, utilization_percent=5.0),)


async def test_samples_on_every_beat_and_stops_at_once() -> None:
    log, probe, stop = FakeLog(), FakeProbe(GPU), asyncio.Event()
    task = asyncio.create_task(Monitor(log, lambda: probe, FAST).run(stop))
    await log.until(tries=4)
    stop.set()
    async with asyncio.timeout(1):
        await task
    assert probe.closed
    first = log.samples[0]
    assert (first.camera_id, first.host, first.source, first.gpus) == (SYSTEM, "here", "nvml", GPU)
    assert len({new.id for new in log.appended}) == len(log.appended) >= 4
    times = [sample.sampled_at for sample in log.samples]
    assert times == sorted(times)


async def test_a_host_without_a_gpu_says_so_once() -> None:
    log, stop = FakeLog(), asyncio.Event()
    task = asyncio.create_task(Monitor(log, FakeProbe, FAST).run(stop))
    await log.until(tries=1)
    await asyncio.sleep(0.1)  # ten beats in which nothing more must be said
    stop.set()
    await task
    assert [(sample.source, sample.gpus) for sample in log.samples] == [("none", ())]


async def test_a_driver_that_goes_and_comes_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "REOPEN_SECONDS", 0.02)
    log, stop = FakeLog(), asyncio.Event()
    probes = [FakeProbe(GPU)]
    task = asyncio.create_task(Monitor(log, lambda: probes[-1], FAST).run(stop))
    await log.until(tries=2)
    probes[0].gpus = ()
    await log.until(told="none")
    probes.append(FakeProbe(GPU))
    await log.until(told="nvml")
    stop.set()
    await task
    sources = [sample.source for sample in log.samples]
    assert sources[-1] == "nvml"
    assert sources.count("none") == 1


async def test_samples_wait_for_the_log_in_order() -> None:
    log, stop = FakeLog(away=True), asyncio.Event()
    task = asyncio.create_task(Monitor(log, lambda: FakeProbe(GPU), FAST).run(stop))
    await log.until(tries=3)
    assert not log.appended
    log.away = False
    await log.until(tries=log.tried + 1)
    stop.set()
    await task
    times = [sample.sampled_at for sample in log.samples]
    assert len(times) >= 4
    assert times == sorted(times)
    assert len({new.id for new in log.appended}) == len(log.appended)
