"""A process of roles starts and stops in one order, under one deadline."""

import asyncio
import time
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from agents import roles as stopping
from agents.roles import Roles, run_until_stopped
from domain.errors import HsiError


class Process:
    """What happened in a process whose parts only say that they start and stop."""

    def __init__(self) -> None:
        self.said: list[str] = []
        unused: Any = SimpleNamespace()
        self.roles = Roles(unused, unused, self._app(), unused, AsyncExitStack(), unused)

    def _app(self) -> Any:
        return SimpleNamespace(
            finalize=lambda: None,
            flow_control=SimpleNamespace(resume=lambda: self.said.append("resume")),
            start=lambda: self.says("app starts"),
            stop=lambda: self.says("app stops"),
        )

    async def says(self, what: str) -> None:
        await asyncio.sleep(0.03)
        self.said.append(what)

    def channel(self, name: str) -> None:
        channel = SimpleNamespace(drain_seconds=None, start=lambda: self.says(f"{name} starts"))

        async def stop() -> None:
            self.said.append(f"{name} drains")
            await asyncio.sleep(0.01)
            self.said.append(f"{name} drained")

        channel.stop = stop
        self.roles.channels.append(channel)  # type: ignore[arg-type]

    def side(self, name: str, *, producer: bool = False, hangs: bool = False) -> None:
        async def work(stop: asyncio.Event) -> None:
            await stop.wait()
            if hangs:
                await asyncio.Event().wait()
            await asyncio.sleep(0.01)  # What does not wait for it comes before it.
            self.said.append(f"{name} ends")

        self.roles.sides[name] = work
        if producer:
            self.roles.producers.add(name)


@pytest.fixture
def process() -> Process:
    found = Process()
    found.side("watch", producer=True)
    found.side("camera directory")
    found.channel("detect")
    found.channel("batch")
    return found


async def stopped(process: Process) -> None:
    stop = asyncio.Event()
    stop.set()  # as soon as everything has started
    await run_until_stopped(process.roles, ["watch"], stop)


async def test_producers_stop_first_then_channels_then_agents_then_the_rest(
    process: Process,
) -> None:
    await stopped(process)
    assert process.said[:4] == ["app starts", "resume", "detect starts", "batch starts"]
    assert process.said[4] == "watch ends"
    assert sorted(process.said[5:7]) == ["batch drains", "detect drains"]
    assert sorted(process.said[7:9]) == ["batch drained", "detect drained"]
    assert process.said[9:] == ["app stops", "camera directory ends"]


async def test_what_hangs_leaves_the_others_their_part_of_the_deadline(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "STOP_SECONDS", 0.4)
    process.side("retention", producer=True, hangs=True)
    process.side("settings", hangs=True)
    began = time.monotonic()
    await stopped(process)
    assert time.monotonic() - began >= 0.3
    assert process.said[-2:] == ["app stops", "camera directory ends"]
    given = [channel.drain_seconds for channel in process.roles.channels]
    assert all(0.0 < seconds <= 0.2 for seconds in given)


async def test_a_task_that_ends_unasked_stops_the_rest_in_order(process: Process) -> None:
    async def ends(stop: asyncio.Event) -> None:
        process.said.append("ends unasked")

    process.roles.sides["probe"] = ends
    with pytest.raises(HsiError, match="the task 'probe' ended unasked"):
        await run_until_stopped(process.roles, ["watch"], asyncio.Event())
    order = ["ends unasked", "watch ends", "detect drains", "app stops", "camera directory ends"]
    assert [word for word in process.said if word in order] == order
