"""From NVIDIA's library to PostgreSQL and /ws/system: one sample a beat, of every GPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from aiohttp import ClientWebSocketResponse
from support.nvml import GIB, Card, Library, nvml_library
from support.serving import served, until

from agents.monitor import Monitor, MonitorSettings
from inference.gpu import open_gpu_probe
from inference.pressure import GpuMemoryPressure
from streams.log import EventLog

BEAT = 0.5
BEATS = 12


@asynccontextmanager
async def sampling(log: EventLog) -> AsyncIterator[None]:
    """Run a monitor on a beat."""
    stop = asyncio.Event()
    monitor = Monitor(log, open_gpu_probe, MonitorSettings("here", BEAT))
    task = asyncio.create_task(monitor.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def heard_on(socket: ClientWebSocketResponse) -> set[datetime]:
    """Listen for twelve beats; return when the samples were taken."""
    heard: set[datetime] = set()
    async with asyncio.timeout(60):
        while len(heard) <= BEATS:
            status = (await until(socket, "system_status"))["data"]["gpu"]
            if status["recorded_at"] is not None:
                heard.add(datetime.fromisoformat(status["recorded_at"]))
                assert [gpu["gpu_index"] for gpu in status["gpus"]] == [0, 1]
                assert status["memory_pressure"] == "warning"
    return heard


async def test_a_sample_a_beat_of_all_gpus_in_the_table_and_on_the_socket(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    library = Library([Card(used=11 * GIB), Card(name=b"NVIDIA T4", total=16 * GIB)])
    polled = partial(replace, gpu_poll_interval_seconds=BEAT)
    running = served(valkey_url, database_url, tmp_path, projecting=True, config=polled)
    async with running as api:
        with nvml_library(library):
            async with sampling(api.log), api.client.ws_connect("/ws/system") as ws:
                heard = await heard_on(ws)
            # and the stage that gives way is told by the same library
            pressure = GpuMemoryPressure(open_gpu_probe)
            excuse = await pressure.excuse()
            await pressure.close()
        beats = (max(heard) - min(heard)).total_seconds() / BEAT
        # Never more often than asked. How much later is up to how busy this machine is.
        assert BEATS - 1 <= beats <= 3 * BEATS
        # then the table has the same samples, of both GPUs, in ascending time
        since = min(heard).isoformat().replace("+", "%2B")
        answer = await api.json(f"/api/system/gpu/history?since={since}&limit=5000")
    samples = answer["samples"]
    times = [datetime.fromisoformat(sample["recorded_at"]) for sample in samples]
    assert times == sorted(times)
    assert heard <= set(times)
    span = {moment for moment in times if moment <= max(heard)}
    assert len(heard) <= len(span)
    assert [s["gpu_index"] for s in samples] == [0, 1] * (len(samples) // 2)
    assert {s["gpu_name"] for s in samples} == {"NVIDIA RTX A4000", "NVIDIA T4"}
    assert answer["origin"] == "database"
    assert excuse is not None
    assert excuse.startswith("92% of the memory of GPU 0 is used")
    assert library.starts == library.stops == 2
