"""Tells the log of every edit of `data/runtime.env` while everything runs.

Each API process looks at the file of its machine. An edit is what differs from the lines that were
told last, and those are kept beside the log: so an edit made while everything was down is told
at the next start, nothing is told twice, and two processes that see the same edit append the same
events, once.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM
from domain.ids import follow_up_id
from runtime.hot import HOT
from runtime.layers import ENVIRONMENT, Found
from runtime.settings import Settings, SettingsError
from streams.configuration import Change, change_settings
from streams.live_settings import LiveSettings
from streams.log import EventLog

logger = logging.getLogger(__name__)

ACTOR: Final = "runtime.env"

LOOK_SECONDS: Final = 2.0
"""An edit counts once the file was the same in two looks: nobody is writing it any more."""


class _Seen(msgspec.Struct, frozen=True):
    """The lines that were told last, of the settings that take effect at once."""

    id: str
    lines: dict[str, str]

    def next(self, lines: dict[str, str]) -> "_Seen":
        """Return what follows; everybody who comes to the same lines gives them the same id."""
        text = msgspec.json.encode(lines, order="sorted").decode()
        return _Seen(follow_up_id(f"{self.id}/{text}", ACTOR), lines)


class RuntimeEnv:
    """Watches the file that one process's settings were read from."""

    def __init__(self, log: EventLog, live: LiveSettings, file: Path) -> None:
        self._log = log
        self._live = live
        self._file = file.absolute()
        self._lines = live.own.runtime_lines
        place = f"{socket.gethostname()}:{self._file}"
        self._role = f"runtime-env-{sha256(place.encode()).hexdigest()[:16]}"
        self._began = _Seen(self._role, _hot(self._lines))

    async def run(self) -> None:
        """Look at the file until the task is cancelled."""
        before: object = None
        done: object = None
        while True:
            stamp = await asyncio.to_thread(_stamp, self._file)
            if stamp == before and stamp != done:
                try:
                    await self.take_over()
                except ServiceUnavailableError as error:
                    logger.warning("an edit of %s waits for Redis: %s", self._file, error)
                else:
                    done = stamp
            before = stamp
            await asyncio.sleep(LOOK_SECONDS)

    async def take_over(self) -> None:
        """Tell what was edited; a file with a mistake changes nothing at all."""
        try:
            now = await asyncio.to_thread(self._live.own.again)
        except SettingsError as error:
            logger.error("%s changes nothing: %s", self._file, "; ".join(error.problems))
            return
        self._name_what_waits(now.runtime_lines)
        stored = await self._load()
        told, lines = stored or self._began, _hot(now.runtime_lines)
        if lines == told.lines:
            if stored is None:
                await self._store(told)
            return
        then = told.next(lines)
        if changes := self._changes(now, told.lines):
            self._live.learn(
                await change_settings(self._log, changes, actor=ACTOR, command=then.id)
            )
        await self._store(then)

    def _name_what_waits(self, lines: Mapping[str, Found]) -> None:
        """Say which edited lines only count after a restart; a value may be a secret."""
        for name in sorted(self._lines.keys() | lines.keys()):
            old, new = self._lines.get(name), lines.get(name)
            if name.lower() in HOT or (old and old.value) == (new and new.value):
                continue
            where = new.source if new else f"{self._file} (taken out)"
            logger.warning("%s in %s was edited: restart needed", name, where)
        self._lines = lines

    def _changes(self, now: Settings, told: Mapping[str, str]) -> list[Change]:
        changes = []
        for field in HOT:
            name, source = field.upper(), now.sources[field]
            found = now.runtime_lines.get(name)
            if told.get(name) == (found and found.value):
                continue
            if source != found.source if found else source.startswith(ENVIRONMENT):
                logger.warning("%s in %s has no effect: %s wins", name, self._file, source)
                continue
            changes.append(
                Change(
                    field,
                    getattr(self._live.current, field),
                    getattr(now, field),
                    reset=found is None,
                    reason=found.source if found else f"taken out of {self._file}",
                )
            )
        return changes

    async def _load(self) -> _Seen | None:
        stored = await self._log.load_snapshot(self._role, self._log.partition_of(SYSTEM))
        return msgspec.json.decode(stored, type=_Seen) if stored else None

    async def _store(self, seen: _Seen) -> None:
        partition = self._log.partition_of(SYSTEM)
        await self._log.store_snapshot(self._role, partition, msgspec.json.encode(seen))


def _hot(lines: Mapping[str, Found]) -> dict[str, str]:
    return {name: found.value for name, found in lines.items() if name.lower() in HOT}


def _stamp(file: Path) -> tuple[int, int, int]:
    """Return what tells one state of the file from another; also where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
