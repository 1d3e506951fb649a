"""Finder: notices files, by the file system's events and by scans of what lies there.

A watcher alone forgets: what came while it was down, what came into a new folder before it was
watched, what an overflowing event queue dropped, names that are no UTF-8. So a scan runs at every
beginning of a watch and from time to time, and asks the log which files it knows.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from watchfiles import Change, awatch
from watchfiles.main import FileChange

from agents.intake import UNASSIGNED, UNREADABLE_MARK
from agents.recorder import Patience
from agents.scan import Found, runs_below
from domain import ids
from domain.paths import escape_path, is_passing
from streams.log import EventLog

_log = logging.getLogger(__name__)

_STEP_MS: Final = 5
_DEBOUNCE_MS: Final = 50
_TICK_MS: Final = 1000
_LONG_SESSION_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SCAN_SHARE: Final = 50
"""A repeated scan waits this many times as long as the last one took: two percent of a core."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How patiently to watch; the defaults are the settings' defaults."""

    polling: bool = False
    polling_interval_seconds: float = 1.0
    settle_seconds: float = 10.0
    """A file that is not whole and unchanged for so long gets its verdict."""
    rescan_seconds: float = 60.0
    """Everything is scanned again after so long, in case the watcher dropped an event."""
    retry_seconds: float = 5.0
    """How soon a video is tried again when its frames could not be saved (a full disk)."""


class Taker(Protocol):
    """Takes the paths that were found, raw and below the base folder."""

    def offer(self, path: str, *, is_new: bool) -> bool:
        """Take a path that changed just now; False when there is no room."""
        ...

    async def offer_backlog(self, path: str, signature: str) -> None:
        """Take a path that a scan found and the log does not know so, once there is room."""
        ...


class Finder:
    """Watches and scans one base folder until the stop."""

    def __init__(
        self, base: str, options: WatchOptions, log: EventLog, taker: Taker, patience: Patience
    ) -> None:
        self._base = base
        self._options = options
        self._events = log
        self._taker = taker
        self._patience = patience
        self._stopping = patience.stopping
        self._wanted: set[str] = set()
        self._scan_now = asyncio.Event()
        self._unreadable: set[str] = set()
        self._pool = ThreadPoolExecutor(1, "watch-scan")

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- events of the file system ----------------------------------------------------------

    async def watch(self) -> None:
        """Follow the base folder; begin again whenever it, or the watcher, was interrupted."""
        pause, said = 0.05, ""
        while not self._stopping.is_set():
            identity = await self._await_base()
            if identity is None:
                return
            began, trouble = time.monotonic(), ""
            try:
                await self._session(identity)
            except* (OSError, RuntimeError) as group:
                trouble = _first_words(group)
            if trouble and trouble != said:
                _log.warning(
                    "watching %s was interrupted (%s); it begins again with a scan",
                    escape_path(self._base),
                    trouble,
                )
            long = time.monotonic() - began > _LONG_SESSION_SECONDS
            pause, said = (0.05 if long else min(2 * pause, _LONGEST_PAUSE_SECONDS)), trouble
            await self._patience.pause(pause)

    async def _session(self, identity: tuple[int, int]) -> None:
        self.want_scan("")
        checked = time.monotonic()
        first = True
        async with aclosing(self._changes()) as stream:
            async for changes in stream:
                self._offer(changes)
                if first:
                    # What came between the scan above and the first event of the watcher.
                    self.want_scan("")
                    first = False
                if time.monotonic() - checked >= _TICK_MS / 1000:
                    checked = time.monotonic()
                    if await self._identity() != identity:
                        return

    def _changes(self) -> AsyncGenerator[set[FileChange], None]:
        return awatch(
            self._base,
            # Filtered in _offer: what a filter of theirs drops would not come back as a tick.
            watch_filter=None,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            stop_event=self._stopping,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            force_polling=self._options.polling,
            poll_delay_ms=int(self._options.polling_interval_seconds * 1000),
            ignore_permission_denied=True,
        )

    def _is_wanted(self, change: Change, below: str) -> bool:
        if change is Change.deleted or not below:
            return False
        return not any(map(is_passing, below.split("/")))

    def _offer(self, changes: set[FileChange]) -> None:
        # Names tell the time more often than not, and a set has no order of its own.
        for path, change in sorted((path, change) for change, path in changes):
            below = path[len(self._base) + 1 :]
            if not self._is_wanted(change, below):
                continue
            if not self._taker.offer(below, is_new=change is Change.added):
                self.want_scan("")

    async def _await_base(self) -> tuple[int, int] | None:
        """Wait until the base folder is there; None on a stop."""
        away = False
        while not self._stopping.is_set():
            identity = await self._identity()
            if identity is not None:
                if away:
                    _log.info("the folder %s is back", escape_path(self._base))
                return identity
            if not away:
                _log.warning(
                    "the folder %s (FOSCAM_BASE_PATH) is away; no file can arrive until it is "
                    "mounted or created again",
                    escape_path(self._base),
                )
            away = True
            await self._patience.pause(_TICK_MS / 1000)
        return None

    async def _identity(self) -> tuple[int, int] | None:
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _identity_of, self._base
        )

    # --- scans ------------------------------------------------------------------------------

    def want_scan(self, folder: str) -> None:
        """Ask for a scan below `folder` (empty: everything) as soon as no other one runs."""
        self._wanted.add(folder)
        self._scan_now.set()

    async def scan(self) -> None:
        """Scan what is asked for, and everything from time to time; ends by cancellation."""
        pause = self._options.rescan_seconds
        while not self._stopping.is_set():
            # Not wait_for: on Python 3.11 it swallows a cancellation that comes with the event.
            try:
                async with asyncio.timeout(pause):
                    await self._scan_now.wait()
            except TimeoutError:
                self._wanted.add("")
            self._scan_now.clear()
            folders, self._wanted = self._wanted, set()
            began = time.monotonic()
            for folder in [""] if "" in folders else sorted(folders):
                await self._scan_below(folder)
            pause = max(self._options.rescan_seconds, _SCAN_SHARE * (time.monotonic() - began))

    async def _scan_below(self, folder: str) -> None:
        loop = asyncio.get_running_loop()
        runs = runs_below(self._base, folder, self._complain)
        while run := await loop.run_in_executor(self._pool, next, runs, None):
            await self._offer_unknown(run)

    async def _offer_unknown(self, run: list[Found]) -> None:
        by_camera: dict[str, list[str]] = {}
        for found in run:
            folder, slash, _ = found.path.partition("/")
            camera = ids.camera_id(folder) if slash else UNASSIGNED
            by_camera.setdefault(camera, []).append(found.path)
        recorded: dict[str, str | None] = {}
        for camera, paths in by_camera.items():
            answer = await self._patience.until_answered(
                partial(self._events.known_files, camera, paths)
            )
            if answer is None:
                return
            recorded.update(zip(paths, answer, strict=True))
        for found in run:
            if self._is_news(found, recorded[found.path]):
                await self._taker.offer_backlog(found.path, found.signature)

    def _is_news(self, found: Found, recorded: str | None) -> bool:
        if recorded == found.signature + UNREADABLE_MARK:
            return os.access(os.path.join(self._base, found.path), os.R_OK)
        return recorded != found.signature

    def _complain(self, what: str) -> None:
        if what not in self._unreadable:
            self._unreadable.add(what)
            _log.warning("%s", what)


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _first_words(group: BaseExceptionGroup[BaseException]) -> str:
    """Name the innermost cause of a group; the file watch limit gets the advice that it needs."""
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    words = escape_path(str(cause)) or type(cause).__name__
    if "limit" in words:
        words += "; raise fs.inotify.max_user_watches or set FILE_WATCHER_POLLING=true"
    return words
