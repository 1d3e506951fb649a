"""Editing data/runtime.env while everything runs: what counts, what waits, what is wrong."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.logs import opened
from support.watching import eventually

from agents.applied import tell_settings
from agents.settings import SettingsFollower
from domain.events import SYSTEM, ConfigChanged, SettingsApplied
from runtime.settings import Settings, load_settings
from runtime.tasks import end
from streams import runtime_env
from streams.configuration import Change, change_settings, load_changed
from streams.envelope import START
from streams.live_settings import LiveSettings
from streams.log import EventLog
from streams.runtime_env import RuntimeEnv


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as running:
        yield running


FILE = Path("data/runtime.env")
NONE: dict[str, str] = {}


def write(text: str, file: Path = FILE) -> None:
    """Write a file as editors do: beside it, then in its place."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)


class Watched:
    """What an API process has of the file: its settings, and who tells of edits."""

    def __init__(self, log: EventLog, environ: dict[str, str] = NONE) -> None:
        self.log = log
        self.live = LiveSettings(load_settings(environ=environ))
        file = self.live.own.runtime_file
        assert file is not None
        self.edits = RuntimeEnv(log, self.live, file)

    async def edit(self, text: str) -> Settings:
        """Write the file, let it be looked at; answer what counts then."""
        write(text)
        await self.edits.take_over()
        return self.live.current


async def told(log: EventLog) -> list[ConfigChanged]:
    run = await log.read("system", log.partition_of(SYSTEM), START, 1000)
    return [each.event for each in run if isinstance(each.event, ConfigChanged)]


async def test_an_edit_is_an_event_with_actor_old_and_new(log: EventLog) -> None:
    write("RETENTION_DAYS=20\n")
    process = Watched(log)
    await process.edits.take_over()
    assert await told(log) == []
    after = await process.edit("# quieter nights\nRETENTION_DAYS=25\nFAST_PATH_OBJECT_TYPES=[]\n")
    assert (after.retention_days, after.fast_path_object_types) == (25, ())
    days, types = sorted(await told(log), key=lambda event: event.setting, reverse=True)
    assert (days.setting, days.old, days.new) == ("RETENTION_DAYS", 20, 25)
    assert (days.actor, days.reason) == ("runtime.env", "data/runtime.env:2")
    assert (types.old, types.new) == (("person",), ())
    await process.edit("RETENTION_DAYS=25\n# moved\nFAST_PATH_OBJECT_TYPES=[]\n")
    assert len(await told(log)) == 2


async def test_an_edit_reaches_processes_that_run_and_those_that_start_later(
    log: EventLog,
) -> None:
    write("LOG_LEVEL=WARNING\n")
    write("LOG_LEVEL=ERROR\n", Path(".env"))
    process, follower = Watched(log), SettingsFollower(log, load_settings(environ={}))
    stop = asyncio.Event()
    assert await follower.open(stop)
    running = asyncio.create_task(follower.run(stop))
    await process.edit("LOG_LEVEL=DEBUG\n")
    await eventually(lambda: follower.live.current.log_level == "DEBUG")
    # A line that is taken out gives the setting back to the layers beneath, as they are now.
    await process.edit("")
    await eventually(lambda: follower.live.current.log_level == "ERROR")
    assert (await load_changed(log)).values == {}
    stop.set()
    await running
    late = await LiveSettings.load(log, load_settings(environ={}))
    assert late.current.log_level == "ERROR"
    assert process.live.current.log_level == "ERROR"


async def test_the_pipelines_settings_are_told_with_an_edit(log: EventLog) -> None:
    process = Watched(log)
    await tell_settings(log, process.live.own)
    await process.edit("BATCH_WINDOW_SECONDS=45\n")
    run = await log.read("system", log.partition_of(SYSTEM), START, 10)
    applied = [each.event for each in run if isinstance(each.event, SettingsApplied)]
    assert [each.batch_window_seconds for each in applied] == [90, 45]


async def test_the_later_of_edit_and_request_wins(log: EventLog) -> None:
    process = Watched(log)
    await process.edit("RETENTION_DAYS=20\n")
    patched = [Change("retention_days", 20, 5)]
    process.live.learn(await change_settings(log, patched, actor="ann", command="request 1"))
    assert (await process.edit("RETENTION_DAYS=20\nLOG_LEVEL=ERROR\n")).retention_days == 5
    assert (await process.edit("RETENTION_DAYS=21\nLOG_LEVEL=ERROR\n")).retention_days == 21
    reset = [Change("retention_days", 21, 21, reset=True)]
    process.live.learn(await change_settings(log, reset, actor="ann", command="request 2"))
    assert process.live.current.retention_days == 21, "the file as it is now, not as at the start"


BROKEN = (
    ("RETENTION_DAYS=0\n", "RETENTION_DAYS=0 (from data/runtime.env:1): must be a whole number"
     " from 1 to 365"),
    ("\nLOG_LEVEL=LOUD\n", "LOG_LEVEL=LOUD (from data/runtime.env:2): must be one of DEBUG, INFO"),
    ("RETENTION_DAYS=7\nthis is no line\n", "data/runtime.env:2: is not NAME=value"),
    ("RETENTION_DAYS=7\nAPI_PORT=70000\n", "API_PORT=70000 (from data/runtime.env:2): must be a"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BROKEN)
async def test_a_file_with_a_mistake_changes_nothing(
    log: EventLog, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    process = Watched(log)
    await process.edits.take_over()
    assert (await process.edit(text)).retention_days == 30
    assert says in caplog.text
    assert await told(log) == []
    assert (await process.edit("RETENTION_DAYS=7\n")).retention_days == 7


async def test_what_needs_a_restart_and_what_has_no_effect_is_said(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    process = Watched(log, {"RETENTION_DAYS": "3"})
    await process.edit("API_PORT=8001\nREDIS_PASSWORD=tiger\nRETENTION_DAYS=9\n")
    assert "API_PORT in data/runtime.env:1 was edited: restart needed" in caplog.text
    assert "REDIS_PASSWORD in data/runtime.env:2 was edited: restart needed" in caplog.text
    assert "RETENTION_DAYS in" in caplog.text
    assert "has no effect: environment wins" in caplog.text
    assert "tiger" not in caplog.text
    assert (await told(log), process.live.current.retention_days) == ([], 3)
    caplog.clear()
    await process.edit("API_PORT=8001\nRETENTION_DAYS=9\n")
    assert "REDIS_PASSWORD" in caplog.text
    assert "API_PORT" not in caplog.text
    async for key in log.client.scan_iter("*runtime-env*"):
        assert b"tiger" not in await log.client.get(key)


async def test_several_processes_tell_one_edit_once(log: EventLog) -> None:
    processes = [Watched(log) for _ in range(3)]
    await asyncio.gather(*(process.edits.take_over() for process in processes))
    write("LOG_LEVEL=ERROR\nRETENTION_DAYS=8\n")
    await asyncio.gather(*(process.edits.take_over() for process in processes))
    assert len(await told(log)) == 2
    assert (await load_changed(log)).values == {"log_level": "ERROR", "retention_days": 8}


async def test_an_edit_made_while_everything_was_down_is_told_at_the_next_start(
    log: EventLog,
) -> None:
    await Watched(log).edit("RETENTION_DAYS=8\n")
    write("RETENTION_DAYS=9\n")
    later = Watched(log)
    later.live.learn(await load_changed(log))
    await later.edits.take_over()
    assert [event.new for event in await told(log)] == [8, 9]
    assert later.live.current.retention_days == 9


async def test_the_running_watch_sees_edits_by_itself(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(runtime_env, "LOOK_SECONDS", 0.02)
    process = Watched(log)
    running = asyncio.create_task(process.edits.run())
    for days in (8, 9):
        write(f"RETENTION_DAYS={days}\n")
        await eventually(lambda days=days: process.live.current.retention_days == days)
    await asyncio.to_thread(FILE.unlink)
    await eventually(lambda: process.live.current.retention_days == 30)
    await end(running)
