"""Recorder: what was found about a file goes to the log, once, also when Redis is away."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from agents.intake import Ready, registration
from domain.errors import ServiceUnavailableError
from domain.events import VideoReceived
from domain.paths import escape_path
from domain.trace import trace_id_of
from inference.pictures import PictureStore
from runtime.context import correlation
from streams.log import EventLog, Intake, TakenIn

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_REMEMBERED: Final = 4096
_LONGEST_PAUSE_SECONDS: Final = 2.0


class KnownCameras(Protocol):
    """Who is a camera already."""

    def known(self, camera_id: str) -> bool:
        """Say whether a camera of this id is registered and not removed."""
        ...

    def removed_by(self, camera_id: str) -> str | None:
        """Return the id of the event that removed a camera; None for any other camera."""
        ...


class Patience:
    """Repeats a call while its service is away, and says so once, not once a call."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._away = False

    async def until_answered(self, call: Callable[[], Awaitable[_T]]) -> _T | None:
        """Return what `call` answers; None when the stop came first."""
        pause = 0.1
        while not self.stopping.is_set():
            try:
                answer = await call()
            except ServiceUnavailableError as error:
                if not self._away:
                    _log.warning("%s; files wait in their folders until it is back", error)
                self._away = True
                await self.pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            if self._away:
                self._away = False
                _log.info("the log answers again; files are taken in")
            return answer
        return None

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()


class Recorder:
    """Appends the events of files, and registers their cameras before."""

    def __init__(
        self, log: EventLog, store: PictureStore, cameras: KnownCameras, patience: Patience
    ) -> None:
        self._log = log
        self._store = store
        self._cameras = cameras
        self._patience = patience
        self._folders: dict[str, str] = {}
        self._registered: dict[str, str] = {}
        """Camera → what its registration followed from: its own id, or its removal."""
        self._recent: OrderedDict[str, Intake] = OrderedDict()

    def signature_of(self, path: str) -> str | None:
        """Return the signature under which `path` was recorded lately."""
        intake = self._recent.get(path)
        return intake.signature if intake else None

    def forget(self, path: str, signature: str) -> None:
        """Forget a record that the log does not have (any more): it may have lost its end."""
        if self.signature_of(path) == signature:
            del self._recent[path]

    async def record(self, ready: Ready) -> None:
        """Write the file's events to the log; returns early, with nothing done, on a stop."""
        await self._register(ready)
        intake = ready.intake
        before = self._recent.get(intake.path)
        if before is not None and intake.sha256 is not None and before.sha256 == intake.sha256:
            # The same bytes under the same name: an upload that set the file's time afterwards.
            taken = await self._take_in(ready.as_touched())
            self._discard_frames(ready)
        else:
            taken = await self._take_in(intake)
            if taken is not None and taken.status == "duplicate":
                taken = await self._take_in(ready.as_duplicate(taken.duplicate_of or ""))
                self._discard_frames(ready)
        if taken is not None:
            self._remember(ready)

    async def _take_in(self, intake: Intake) -> TakenIn | None:
        return await self._patience.until_answered(lambda: self._log.take_in(intake))

    async def _register(self, ready: Ready) -> None:
        folder, camera_id = ready.folder, ready.intake.camera_id
        if folder is None:
            return
        first = self._folders.setdefault(camera_id, folder)
        if first != folder:
            self._folders[camera_id] = folder
            _log.warning(
                "the folders %r and %r both belong to the camera %s; rename one of them if they "
                "are two cameras",
                escape_path(first),
                escape_path(folder),
                camera_id,
            )
        # The directory shows a registration a moment later: it is not repeated meanwhile.
        cause = self._cameras.removed_by(camera_id) or camera_id
        if self._cameras.known(camera_id) or self._registered.get(camera_id) == cause:
            return
        new = registration(camera_id, folder, ready.intake.file_id, cause)
        if await self._patience.until_answered(lambda: self._log.append(new)) is None:
            return
        self._registered[camera_id] = cause
        again = "" if cause == camera_id else " again, since files still arrive in it"
        with correlation(ready.intake.file_id, trace_id_of(ready.intake.file_id)):
            _log.info(
                "folder %r is a camera from now on%s: %s", escape_path(folder), again, camera_id
            )

    def _remember(self, ready: Ready) -> None:
        path = ready.intake.path
        self._recent[path] = ready.intake
        self._recent.move_to_end(path)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        level = logging.WARNING if ready.verdict.startswith("rejected") else logging.DEBUG
        with correlation(ready.intake.file_id, trace_id_of(ready.intake.file_id)):
            _log.log(level, "%s: %s", escape_path(path), ready.verdict)

    def _discard_frames(self, ready: Ready) -> None:
        events = ready.intake.events
        if events and isinstance(events[0].event, VideoReceived):
            self._store.discard_frames(ready.intake.file_id)
