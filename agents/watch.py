"""Watch: camera folders to `image.received`, every file once, none forgotten.

Paths come from a Finder (file system events and scans) and from a timer for files that were not
whole. Workers look at them; verdicts go to the log in the order in which a camera's files were
taken up. While Redis, the folder or the disk is away, work waits and nothing else stops.
"""

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from agents.finder import Finder, WatchOptions
from agents.inbox import Inbox
from agents.intake import Elsewhere, Examiner, Folder, IntakeRules, Look, NotYet, Ready, Unchanged
from agents.recorder import KnownCameras, Patience, Recorder
from domain.errors import HsiError, TransientError
from domain.paths import VIDEO_SUFFIXES, escape_path, suffix
from inference.pictures import PictureStore
from streams.log import EventLog

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 10_000
_LONGEST_REMINDER_SECONDS: Final = 1.0
_SHORTEST_REMINDER_SECONDS: Final = 0.02
_REST: Final = 4
"""A file that is not whole yet rests this many times as long as the look at it took."""


@dataclass(slots=True)
class _Waiting:
    """A file that was not whole when it was looked at."""

    signature: str
    since: float
    not_before: float = 0.0
    reminder: asyncio.TimerHandle | None = None

    def forget(self) -> None:
        if self.reminder is not None:
            self.reminder.cancel()


@dataclass(slots=True)
class _Lane:
    """An inbox with its own workers and threads: videos never stand in the way of pictures."""

    name: str
    workers: int
    threads: int
    inbox: Inbox = field(default_factory=Inbox)
    pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.threads, f"watch-{self.name}")


class Watch:
    """Takes in what cameras drop below the base folder of `store`."""

    def __init__(
        self,
        log: EventLog,
        store: PictureStore,
        cameras: KnownCameras,
        *,
        rules: IntakeRules | None = None,
        options: WatchOptions | None = None,
    ) -> None:
        self._options = options or WatchOptions()
        self._base = os.path.realpath(store.base)
        self._examiner = Examiner(store, rules or IntakeRules())
        self._patience = Patience()
        self._recorder = Recorder(log, store, cameras, self._patience)
        self._pictures = _Lane("pictures", workers=8, threads=2)
        self._videos = _Lane("videos", workers=1, threads=1)
        self._waiting: dict[str, _Waiting] = {}
        self._last_turn: dict[str, asyncio.Event] = {}
        self._finder = Finder(self._base, self._options, log, self, self._patience)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop`; then finish what is in hand. Run it once.

        Raises HsiError when the base folder is missing or unreadable at the start.
        """
        _check_base(self._base)
        lanes = (self._pictures, self._videos)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._finder.watch(), name="watch-events")
                scan = tasks.create_task(self._finder.scan(), name="watch-scan")
                for lane in lanes:
                    for number in range(lane.workers):
                        tasks.create_task(self._work(lane), name=f"watch-{lane.name}-{number}")
                await stop.wait()
                self._patience.stopping.set()
                scan.cancel()
                for lane in lanes:
                    lane.inbox.close()
        finally:
            for waiting in self._waiting.values():
                waiting.forget()
            for lane in lanes:
                lane.pool.shutdown(wait=False, cancel_futures=True)
            self._finder.close()

    # --- what the finder found --------------------------------------------------------------

    def offer(self, path: str, *, is_new: bool) -> bool:
        """Take a path that changed just now; False when there is no room."""
        return self._lane(path).inbox.offer(path, is_new=is_new)

    async def offer_backlog(self, path: str, signature: str) -> None:
        """Take a path that a scan found and the log does not know so, once there is room."""
        self._recorder.forget(path, signature)
        if path not in self._waiting:
            await self._lane(path).inbox.offer_backlog(path)

    def _lane(self, path: str) -> _Lane:
        return self._videos if suffix(path) in VIDEO_SUFFIXES else self._pictures

    # --- workers ----------------------------------------------------------------------------

    async def _work(self, lane: _Lane) -> None:
        while (taken := await lane.inbox.take()) is not None:
            path, is_new = taken
            camera = path.partition("/")[0] if lane is self._pictures else path
            before, mine = self._last_turn.get(camera), asyncio.Event()
            self._last_turn[camera] = mine
            try:
                look = await self._look(lane, path)
                if isinstance(look, Ready):
                    if before is not None:
                        await before.wait()
                    await self._recorder.record(look)
                elif isinstance(look, Folder) and (is_new or not self._options.polling):
                    # A polled folder changes with every file in it; those come by themselves.
                    self._finder.want_scan(path)
                elif isinstance(look, Elsewhere):
                    self.offer(look.path, is_new=is_new)
            finally:
                mine.set()
                if self._last_turn.get(camera) is mine:
                    del self._last_turn[camera]
                lane.inbox.done(path)

    async def _look(self, lane: _Lane, path: str) -> Look | None:
        """Look at a path; None when it rests, or has to wait for room on the disk."""
        waiting = self._waiting.get(path)
        began = time.monotonic()
        if waiting is not None and began < waiting.not_before:
            self._remind(path, waiting, waiting.not_before - began)
            return None
        settled = skip = None
        if waiting is None:
            skip = self._recorder.signature_of(path)
        elif began - waiting.since >= self._options.settle_seconds:
            settled = waiting.signature
        else:
            skip = waiting.signature
        try:
            look = await asyncio.get_running_loop().run_in_executor(
                lane.pool, lambda: self._examiner.look(path, skip=skip, settled=settled)
            )
        except TransientError as error:
            self._await_disk(path, error)
            return None
        self._conclude(path, look, time.monotonic() - began)
        return look

    def _conclude(self, path: str, look: Look, took: float) -> None:
        """Wait for the file if it is not whole, else forget that it was waited for."""
        waiting = self._waiting.get(path)
        if isinstance(look, Unchanged) and waiting is not None:
            self._remind(path, waiting, self._until_settled(waiting))
        elif isinstance(look, NotYet):
            _log.debug("%s waits: %s", escape_path(path), look.detail)
            if waiting is None or waiting.signature != look.signature:
                waiting = self._wait_for(path, look.signature)
            rest = max(_SHORTEST_REMINDER_SECONDS, _REST * took)
            waiting.not_before = time.monotonic() + rest
            self._remind(path, waiting, max(rest, self._until_settled(waiting)))
        elif waiting is not None:
            self._waiting.pop(path).forget()

    # --- files that are not whole, or cannot be kept ----------------------------------------

    def _wait_for(self, path: str, signature: str) -> _Waiting:
        if path in self._waiting:
            self._waiting.pop(path).forget()
        waiting = _Waiting(signature, time.monotonic())
        if len(self._waiting) < _MOST_WAITING:
            self._waiting[path] = waiting
        return waiting

    def _until_settled(self, waiting: _Waiting) -> float:
        left = waiting.since + self._options.settle_seconds - time.monotonic()
        return min(max(left, _SHORTEST_REMINDER_SECONDS), _LONGEST_REMINDER_SECONDS)

    def _remind(self, path: str, waiting: _Waiting, seconds: float) -> None:
        waiting.forget()
        if self._waiting.get(path) is waiting:
            loop = asyncio.get_running_loop()
            waiting.reminder = loop.call_later(seconds, self._again, path)

    def _again(self, path: str) -> None:
        self.offer(path, is_new=False)

    def _await_disk(self, path: str, error: TransientError) -> None:
        _log.warning("%s waits: %s", escape_path(path), error)
        # No file has an empty signature: it is looked at again, whole or not, after the rest.
        waiting = self._wait_for(path, "")
        waiting.not_before = time.monotonic() + self._options.retry_seconds
        self._remind(path, waiting, self._options.retry_seconds)


def _check_base(base: str) -> None:
    try:
        with os.scandir(base) as entries:
            next(entries, None)
    except OSError as error:
        raise HsiError(
            f"FOSCAM_BASE_PATH={escape_path(base)} cannot be read ({error.strerror}): create the "
            "folder, let the account of HSI read it, or set FOSCAM_BASE_PATH to another one"
        ) from error
