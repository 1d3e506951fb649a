"""Role processes under their keeper: restart, readiness, orderly and hurried stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from hsi.keeper import LONGEST_DELAY_SECONDS, BackOff, ChildWatch, Keeper
from hsi.plan import Role


@pytest.fixture
async def watch() -> AsyncIterator[ChildWatch]:
    loop = asyncio.get_running_loop()
    watch = ChildWatch()
    loop.add_signal_handler(signal.SIGCHLD, watch.wake)
    yield watch
    loop.remove_signal_handler(signal.SIGCHLD)


class Stage:
    """One role running a small program, and what its keeper said."""

    def __init__(
        self, folder: Path, watch: ChildWatch, program: str, *, stop_seconds: float = 10.0
    ) -> None:
        self.ready_file = folder / "ready.json"
        self.said: list[str] = []
        self.spoke = asyncio.Event()
        self.role = Role(
            name="role",
            argv=(sys.executable, "-c", program, str(folder)),
            env={},
            log=folder / "role.log",
            contains=("role",),
            ready_file=self.ready_file,
            stop_seconds=stop_seconds,
        )
        self.keeper = Keeper(self.role, watch, self._say, lambda: None)
        self.hurry = asyncio.Event()
        self.task = asyncio.create_task(self.keeper.keep())

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.spoke.set()

    async def ready(self) -> int:
        await asyncio.wait_for(self.keeper.ready.wait(), 20)
        pid = self.keeper.pid
        assert pid is not None
        return pid

    async def stop(self) -> None:
        await self.keeper.stop(self.hurry)
        await asyncio.wait_for(self.task, 10)


SERVE = """
import pathlib, signal, sys, threading
folder = pathlib.Path(sys.argv[1])
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
(folder / "ready.json").write_text("{}")
done.wait()
(folder / "drained").write_text("yes")
"""
DEAF = SERVE.replace("lambda *_: done.set()", "signal.SIG_IGN")
FAIL = "import sys; sys.exit('no such model')"


def test_back_off_is_at_once_first_then_doubles_to_a_limit() -> None:
    backoff = BackOff()
    assert [backoff.next(1.0) for _ in range(5)] == [0.0, 5.0, 10.0, 20.0, 40.0]
    assert [backoff.next(1.0) for _ in range(40)][-1] == LONGEST_DELAY_SECONDS
    assert backoff.next(60.0) == 0.0
    assert backoff.next(59.0) == 5.0


async def test_a_killed_role_is_started_again_at_once_and_said(
    tmp_path: Path, watch: ChildWatch
) -> None:
    stage = Stage(tmp_path, watch, SERVE)
    first = await stage.ready()
    psutil.Process(first).kill()
    await asyncio.wait_for(stage.spoke.wait(), 10)
    second = await stage.ready()
    assert second != first
    assert stage.said == ["role ended with signal SIGKILL; starting it again now"]
    await stage.stop()
    assert (tmp_path / "drained").exists()
    assert not psutil.pid_exists(second)


async def test_a_role_that_keeps_failing_waits_longer_and_shows_its_last_words(
    tmp_path: Path, watch: ChildWatch
) -> None:
    stage = Stage(tmp_path, watch, FAIL)
    while len(stage.said) < 2:
        stage.spoke.clear()
        await asyncio.wait_for(stage.spoke.wait(), 20)
    assert "starting it again now" in stage.said[0]
    assert "role ended with exit status 1; starting it again in 5 s" in stage.said[1]
    assert "no such model" in stage.said[1]
    await stage.stop()  # in the middle of its wait


async def test_a_deaf_role_is_killed_after_its_time(tmp_path: Path, watch: ChildWatch) -> None:
    stage = Stage(tmp_path, watch, DEAF, stop_seconds=0.2)
    pid = await stage.ready()
    await stage.stop()
    assert not psutil.pid_exists(pid)
    assert "did not end within 0.2 s and is killed" in stage.said[0]


async def test_hurry_cuts_the_wait(tmp_path: Path, watch: ChildWatch) -> None:
    stage = Stage(tmp_path, watch, DEAF, stop_seconds=60.0)
    pid = await stage.ready()
    stopping = asyncio.create_task(stage.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    stage.hurry.set()
    await asyncio.wait_for(stopping, 10)
    assert not psutil.pid_exists(pid)
    assert stage.said == []


async def test_a_program_that_is_not_there_is_said(tmp_path: Path, watch: ChildWatch) -> None:
    role = Role(
        name="ghost",
        argv=("/nowhere/ghost",),
        env={},
        log=tmp_path / "ghost.log",
        contains=("ghost",),
    )
    said: list[str] = []
    keeper = Keeper(role, watch, said.append, lambda: None)
    assert await keeper.run_once() == 1
    task = asyncio.create_task(keeper.keep())
    await asyncio.sleep(0)
    await keeper.stop(asyncio.Event())
    await asyncio.wait_for(task, 10)
    assert "/nowhere/ghost cannot be run" in said[0]
