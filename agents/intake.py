"""One look at one file of a camera's folder, and the events that follow from it.

Looking reads, hashes and decodes, so it runs in a thread; what it answers is handed to the log in
one atomic call by the watch.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256
from typing import Final

from domain import ids
from domain.capture import CaptureTime, Clues, capture_time
from domain.errors import TransientError
from domain.events import (
    CameraRegistered,
    Event,
    FileDuplicated,
    FileRejected,
    ImageReceived,
    VideoReceived,
)
from domain.names import clean_name
from domain.paths import PICTURE_SUFFIXES, VIDEO_SUFFIXES, escape_path, suffix
from domain.trace import traceparent
from inference.pictures import NotAFileError, OpenFile, OutsideError, PictureStore
from inference.video import BrokenVideoError, Clip, Frame
from inference.whole_file import Finding, Still, Unfit, Video, check
from streams.envelope import NewEvent
from streams.log import Intake

UNASSIGNED: Final = "unassigned"
"""Camera id of files that lie in the base folder itself, where no camera uploads to."""
UNREADABLE_MARK: Final = "!unreadable"
"""Behind the signature of a file that could not be read: once it can, it counts as a new one."""

_SUFFIXES: Final = PICTURE_SUFFIXES | VIDEO_SUFFIXES
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is there any more."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The file's folder was reached through a link; this is where it really lies."""

    path: str


@dataclass(frozen=True, slots=True)
class Folder:
    """The path is a folder."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The file still has the signature that the caller knows."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The file is not whole, or not readable, as it is now."""

    signature: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The file reached its verdict; `intake` records it."""

    folder: str | None
    """The camera's folder; None for a file outside every camera's folder."""
    intake: Intake
    size_bytes: int
    verdict: str
    """For the log of a person: `picture`, `video of 12 frames`, `rejected (truncated)` …"""

    def as_duplicate(self, original: str) -> Intake:
        """Return what to record when the bytes were seen before, as file `original`."""
        event = FileDuplicated(
            camera_id=self.intake.camera_id,
            file_id=self.intake.file_id,
            path=escape_path(self.intake.path),
            sha256=self.intake.sha256 or "",
            size_bytes=self.size_bytes,
            duplicate_of=original,
        )
        return replace(self.intake, sha256=None, events=(new_event(self.intake.file_id, event),))

    def as_touched(self) -> Intake:
        """Return what to record when only the file's time changed: its new signature."""
        return replace(self.intake, sha256=None, events=())


Look = Gone | Elsewhere | Folder | Unchanged | NotYet | Ready


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """What the settings say about taking files in."""

    dedupe_ttl_seconds: int = 300
    camera_zone: tzinfo = UTC
    """Time zone of the cameras' clocks."""
    video_frame_interval_seconds: float = 2.0
    video_max_frames: int = 30


@dataclass(frozen=True, slots=True)
class _File:
    """Where a file lies, and whose it is."""

    path: str
    folder: str | None
    camera_id: str
    size_bytes: int
    modified_ns: int

    @property
    def signature(self) -> str:
        return f"{self.size_bytes}:{self.modified_ns}"

    def id(self, digest: str) -> str:
        return ids.file_id(self.camera_id, self.path, digest, self.modified_ns)


class Examiner:
    """Looks at files; holds no state between two looks."""

    def __init__(
        self,
        store: PictureStore,
        rules: IntakeRules,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock

    def look(self, path: str, *, skip: str | None = None, settled: str | None = None) -> Look:
        """Find out what became of `path` (raw, below the base folder).

        `skip` is a signature that needs no second look. `settled` is one that has stood for so
        long that a file which still has it gets its verdict, also when it is not whole.
        Raises TransientError when frames cannot be saved.
        """
        try:
            if (real := self._store.real_place(path)) != path:
                return Elsewhere(real)
            with self._store.open_camera_file(path) as file:
                at = self._at(path, file.size_bytes, file.modified_ns)
                if skip == at.signature:
                    return Unchanged()
                return self._verdict(at, file, settled=settled == at.signature)
        except FileNotFoundError:
            return Gone()
        except IsADirectoryError:
            return Folder()
        except OutsideError as error:
            return self._not_opened(path, Unfit("outside", str(error)))
        except NotAFileError as error:
            return self._not_opened(path, Unfit("unsupported", str(error)))
        except OSError as error:
            return self._unreadable(path, error, settled)

    def _at(self, path: str, size_bytes: int, modified_ns: int) -> _File:
        folder = path.split("/")[0] if "/" in path else None
        camera = UNASSIGNED if folder is None else ids.camera_id(folder)
        return _File(path, folder, camera, size_bytes, modified_ns)

    def _verdict(self, at: _File, file: OpenFile, *, settled: bool) -> Look:
        finding = self._finding(at, file, settled=settled)
        if isinstance(finding, Still):
            return self._still(at, finding)
        if isinstance(finding, Video):
            video = self._video(at, file, finding)
            if isinstance(video, Ready):
                return video
            finding = video
        if settled:
            return self._rejected(at, finding)
        return NotYet(at.signature, finding.detail)

    def _finding(self, at: _File, file: OpenFile, *, settled: bool) -> Finding:
        if at.folder is None:
            return Unfit(
                "no_camera",
                "the file lies in the base folder itself; cameras upload into a folder of theirs",
            )
        if suffix(at.path) not in _SUFFIXES:
            wanted = ", ".join(sorted(_SUFFIXES))
            return Unfit("unsupported", f"{suffix(at.path) or 'no'} suffix; wanted: {wanted}")
        return check(file, settled=settled)

    def _still(self, at: _File, found: Still) -> Ready:
        captured = self._captured(Clues(at.path, _moment(at.modified_ns), found.exif))
        event = ImageReceived(
            camera_id=at.camera_id,
            picture_id=ids.picture_id(at.camera_id, found.sha256, captured.at),
            file_id=at.id(found.sha256),
            path=escape_path(at.path),
            uri=f"camera:{escape_path(at.path)}",
            sha256=found.sha256,
            size_bytes=found.size_bytes,
            width=found.width,
            height=found.height,
            captured_at=captured.at,
            captured_from=captured.source,
        )
        return self._ready(at, found.sha256, (new_event(event.file_id, event),), "picture")

    def _video(self, at: _File, file: OpenFile, found: Video) -> Ready | Unfit:
        try:
            with Clip(file.again) as clip:
                return self._clip(at, found, clip)
        except BrokenVideoError as error:
            return Unfit("broken", str(error))
        except TransientError:
            # What was saved so far only makes a full disk fuller.
            self._store.discard_frames(at.id(found.sha256))
            raise

    def _clip(self, at: _File, found: Video, clip: Clip) -> Ready | Unfit:
        """Save the frames one by one, so that never more than one is held."""
        duration = timedelta(seconds=clip.facts.duration_seconds)
        # A recorder closes the file when the recording ends: its beginning lies before.
        captured = self._captured(Clues(at.path, _moment(at.modified_ns) - duration))
        rules = self._rules
        images = [
            self._frame(at, found, captured, frame)
            for frame in clip.frames(rules.video_frame_interval_seconds, rules.video_max_frames)
        ]
        if not images:
            return Unfit("broken", "not one frame of the video can be decoded")
        video = VideoReceived(
            camera_id=at.camera_id,
            file_id=at.id(found.sha256),
            path=escape_path(at.path),
            sha256=found.sha256,
            size_bytes=found.size_bytes,
            width=clip.facts.width,
            height=clip.facts.height,
            duration_seconds=clip.facts.duration_seconds,
            frames=len(images),
            captured_at=captured.at,
            captured_from=captured.source,
        )
        first = new_event(video.file_id, video)
        follow = [new_event(video.file_id, image, image.frame, first.id) for image in images]
        return self._ready(at, found.sha256, (first, *follow), f"video of {len(images)} frames")

    def _frame(
        self, at: _File, found: Video, captured: CaptureTime, frame: Frame
    ) -> ImageReceived:
        taken = captured.at + timedelta(seconds=frame.offset_seconds)
        file_id = at.id(found.sha256)
        return ImageReceived(
            camera_id=at.camera_id,
            picture_id=ids.picture_id(at.camera_id, found.sha256, taken, frame.number),
            file_id=file_id,
            path=escape_path(at.path),
            uri=self._store.save_frame(file_id, frame.number, frame.jpeg),
            sha256=sha256(frame.jpeg).hexdigest(),
            size_bytes=len(frame.jpeg),
            width=frame.width,
            height=frame.height,
            captured_at=taken,
            captured_from=captured.source,
            frame=frame.number,
            frame_offset_seconds=frame.offset_seconds,
        )

    def _captured(self, clues: Clues) -> CaptureTime:
        return capture_time(clues, zone=self._rules.camera_zone, now=self._clock())

    def _not_opened(self, path: str, unfit: Unfit) -> Look:
        try:
            status = os.lstat(os.path.join(self._store.base, path))
        except OSError:
            return Gone()
        return self._rejected(self._at(path, status.st_size, status.st_mtime_ns), unfit)

    def _unreadable(self, path: str, error: OSError, settled: str | None) -> Look:
        try:
            status = os.lstat(os.path.join(self._store.base, path))
        except FileNotFoundError:
            return Gone()
        except OSError:
            at = self._at(path, 0, 0)
        else:
            at = self._at(path, status.st_size, status.st_mtime_ns)
        unfit = Unfit(
            "unreadable",
            f"the file cannot be read ({error.strerror}); let the account of HSI read it",
        )
        signature = at.signature + UNREADABLE_MARK
        if settled != signature:
            return NotYet(signature, unfit.detail)
        ready = self._rejected(at, unfit)
        return replace(ready, intake=replace(ready.intake, signature=signature))

    def _ready(self, at: _File, digest: str, events: tuple[NewEvent, ...], verdict: str) -> Ready:
        intake = Intake(
            camera_id=at.camera_id,
            path=at.path,
            signature=at.signature,
            file_id=at.id(digest),
            sha256=digest or None,
            dedupe_ttl_seconds=self._rules.dedupe_ttl_seconds,
            events=events,
        )
        return Ready(at.folder, intake, at.size_bytes, verdict)

    def _rejected(self, at: _File, unfit: Unfit) -> Ready:
        event = FileRejected(
            camera_id=at.camera_id,
            file_id=at.id(""),
            path=escape_path(at.path),
            size_bytes=at.size_bytes,
            reason=unfit.reason,
            detail=unfit.detail,
        )
        events = (new_event(event.file_id, event),)
        return self._ready(at, "", events, f"rejected ({unfit.reason}): {unfit.detail}")


def new_event(file_id: str, event: Event, index: int = 0, causation_id: str = "") -> NewEvent:
    """Wrap an event about a file: the same file's same event always gets the same id."""
    return NewEvent(
        id=ids.follow_up_id(file_id, event.TAG, index),
        event=event,
        correlation_id=file_id,
        causation_id=causation_id,
        traceparent=traceparent(file_id),
    )


def registration(camera_id: str, folder: str, file_id: str, cause: str) -> NewEvent:
    """Return the event by which an unknown folder becomes a camera.

    `cause` is the camera's own id, or the event that removed it: so it happens once after each.
    """
    event = CameraRegistered(
        camera_id=camera_id,
        name=clean_name(folder.replace("_", " ")),
        folder=escape_path(folder),
        source="folder",
    )
    return NewEvent(ids.follow_up_id(cause, event.TAG), event, correlation_id=file_id)


def _moment(modified_ns: int) -> datetime:
    """Return a file's time; one that no calendar has becomes one that nobody believes."""
    try:
        return _EPOCH + timedelta(microseconds=modified_ns // 1000)
    except OverflowError:
        return _EPOCH
