"""A process that is there but does nothing is noticed, killed and started again; then given up."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.watching import eventually

from hsi.keeper import ChildWatch, Keeper, KeeperOptions
from hsi.plan import Role
from runtime import heartbeat
from runtime.heartbeat import VARIABLE, Pulse, beat

HANGING = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text("{}")
os.write(int(os.environ["HSI_HEARTBEAT_FD"]), b".")
time.sleep(600)
"""
BEATING = HANGING.replace(
    "time.sleep(600)",
    "while not time.sleep(0.02): os.write(int(os.environ['HSI_HEARTBEAT_FD']), b'.')",
)


@pytest.fixture
async def watch() -> AsyncIterator[ChildWatch]:
    loop = asyncio.get_running_loop()
    watch = ChildWatch()
    loop.add_signal_handler(signal.SIGCHLD, watch.wake)
    yield watch
    loop.remove_signal_handler(signal.SIGCHLD)


def role(folder: Path, program: str) -> Role:
    return Role(
        name="role",
        argv=(sys.executable, "-S", "-c", program, str(folder / "ready.json")),
        env={},
        log=folder / "role.log",
        contains=("role",),
        ready_file=folder / "ready.json",
        stop_seconds=0.1,
        beats=True,
    )


async def test_a_process_that_hangs_again_and_again_follows_the_schedule_then_has_failed(
    tmp_path: Path, watch: ChildWatch
) -> None:
    waits, said = list[float](), list[str]()

    async def pause(_: asyncio.Event, seconds: float) -> bool:
        waits.append(seconds)
        return False

    # Looks so far apart that each life would count as a long one, were it not for its silence.
    options = KeeperOptions(limit=2, pause=pause, health_seconds=0.05, clock=Hours().read)
    keeper = Keeper(role(tmp_path, HANGING), watch, said.append, lambda: None, options)
    assert await asyncio.wait_for(keeper.keep(), 60) == -signal.SIGKILL
    assert (waits, keeper.failed, keeper.restarts) == ([0, 5], True, 2)
    assert "role gave no sign of life for 0.15 s and was killed; starting it again now" in said[0]
    assert "3 times on end: it is given up until somebody enables it" in said[-1]


class Hours:
    """A clock by which half a minute goes by between two readings."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        self.now += 29.0
        return self.now


async def test_a_process_that_beats_is_left_alone_until_it_is_stopped(
    tmp_path: Path, watch: ChildWatch
) -> None:
    said, spoke = list[str](), asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        spoke.set()

    options = KeeperOptions(health_seconds=0.5)
    keeper = Keeper(role(tmp_path, BEATING), watch, say, lambda: None, options)
    task = asyncio.create_task(keeper.keep())
    await asyncio.wait_for(keeper.ready.wait(), 20)
    first = keeper.pid
    assert first is not None
    await asyncio.sleep(1.1)  # two looks
    assert (keeper.pid, said) == (first, [])
    os.kill(first, signal.SIGSTOP)
    await asyncio.wait_for(spoke.wait(), 20)
    assert "gave no sign of life for 1.5 s and was killed; starting it again now" in said[0]
    await asyncio.wait_for(keeper.ready.wait(), 20)
    assert keeper.pid not in (None, first)
    await keeper.stop(asyncio.Event())
    await asyncio.wait_for(task, 10)


async def test_signs_never_wait_and_go_into_a_pipe_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    pulse = Pulse()
    assert not pulse.heard()
    stop = asyncio.Event()
    monkeypatch.setenv(VARIABLE, str(pulse.writing))
    fcntl.fcntl(pulse.writing, fcntl.F_SETPIPE_SZ, 4096)
    beating = asyncio.create_task(beat(stop))
    await eventually(pulse.heard)
    assert VARIABLE not in os.environ
    # when nobody looks until the pipe is full, then it still goes on
    with suppress(BlockingIOError):
        while True:
            os.write(pulse.writing, bytes(4096))
    await asyncio.sleep(0.05)
    assert not beating.done()
    assert pulse.heard()
    stop.set()
    await beating
    pulse.given()
    pulse.close()


async def test_a_number_that_means_something_else_by_now_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    with (tmp_path / "table").open("wb") as file:
        for given in (str(file.fileno()), "9999", "x"):
            monkeypatch.setenv(VARIABLE, given)
            stop = asyncio.Event()
            beating = asyncio.create_task(beat(stop))
            await asyncio.sleep(0.01)
            stop.set()
            await beating
    assert (tmp_path / "table").read_bytes() == b""
