"""ClipStore: the clips that were made of events' pictures, in a folder of our own.

A clip's name says what it is made of, so nothing has to be kept beside the files, and the same
pictures and span make the same name. Methods block and belong into a thread.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(
    r"(?P<event>evt_[0-9a-f]{24})\.(?P<begin>[0-9]{1,14})\.(?P<start>0|-[1-9][0-9]{0,2})"
    r"\.(?P<end>0|[1-9][0-9]{0,2})\.(?P<frames>[1-9][0-9]{0,4})\.(?P<digest>[0-9a-f]{16})\.mp4",
    re.ASCII,
)


_ABANDONED: Final = timedelta(hours=1)
"""Nobody writes so long at one clip."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which time around an event a clip shows."""

    start_offset: int
    """Seconds before the event's begin, 0 or less."""
    end_offset: int
    """Seconds after its end."""


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip that lies in the folder."""

    path: Path
    event_id: str
    begins_at: datetime
    """When its first picture was taken."""
    span: Span
    frames: int
    digest: str
    """Of the pictures and the span."""
    size_bytes: int
    made_at: datetime

    @property
    def name(self) -> str:
        """Return the name of its file."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Content:
    """What a clip is to be made of."""

    event_id: str
    begins_at: datetime
    span: Span
    picture_ids: Sequence[str]

    @property
    def digest(self) -> str:
        """Return what tells this content from any other of the event."""
        text = "\n".join((f"{self.span.start_offset} {self.span.end_offset}", *self.picture_ids))
        return blake2b(text.encode(), digest_size=8).hexdigest()


class ClipStore:
    """Clips in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> StoredClip | None:
        """Return the clip of a name, None when there is none; nothing else is looked for."""
        return self._clip(self.folder / name) if _NAME.fullmatch(name) else None

    def of_event(self, event_id: str) -> list[StoredClip]:
        """Return an event's clips, the newest first."""
        found = [clip for clip in self._all() if clip.event_id == event_id]
        return sorted(found, key=lambda clip: clip.made_at, reverse=True)

    def measure(self, cutoff: datetime, kept_events: Collection[str]) -> tuple[int, int]:
        """Return how many clips show a picture of before `cutoff`, and their bytes.

        Those of `kept_events` do not count.
        """
        old = self._older(cutoff, kept_events)
        return len(old), sum(clip.size_bytes for clip in old)

    def delete_older(self, cutoff: datetime, kept_events: Collection[str]) -> tuple[int, int]:
        """Delete these, and what was left behind half written; return the same figures."""
        old = self._older(cutoff, kept_events)
        self._delete(old)
        self._sweep(datetime.now(UTC) - _ABANDONED)
        return len(old), sum(clip.size_bytes for clip in old)

    def _older(self, cutoff: datetime, kept_events: Collection[str]) -> list[StoredClip]:
        return [
            clip
            for clip in self._all()
            if clip.begins_at < cutoff and clip.event_id not in kept_events
        ]

    def part_of(self, event_id: str) -> Path:
        """Return where a clip is written before it is whole; no such file is ever given out."""
        return self.folder / f".{event_id}.part.mp4"

    def keep(self, made: Content, frames: int) -> StoredClip:
        """Take over what was written as an event's part; its clips of before are deleted."""
        begin = int(made.begins_at.timestamp() * 1000)
        offsets = f"{made.span.start_offset}.{made.span.end_offset}"
        path = self.folder / f"{made.event_id}.{begin}.{offsets}.{frames}.{made.digest}.mp4"
        self.part_of(made.event_id).replace(path)
        self._delete([clip for clip in self.of_event(made.event_id) if clip.path != path])
        clip = self._clip(path)
        assert clip is not None, path  # noqa: S101 - just named by the same rule
        return clip

    def _delete(self, clips: Collection[StoredClip]) -> None:
        for clip in clips:
            clip.path.unlink(missing_ok=True)

    def _sweep(self, before: datetime) -> None:
        for part in self.folder.glob(".evt_*.part.mp4"):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < before.timestamp():
                    part.unlink()

    def _all(self) -> Iterator[StoredClip]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if (clip := self._clip(Path(entry.path))) is not None:
                    yield clip

    def _clip(self, path: Path) -> StoredClip | None:
        parts = _NAME.fullmatch(path.name)
        try:
            if parts is None or path.is_symlink():
                return None
            status = path.stat()
        except FileNotFoundError:
            return None
        return StoredClip(
            path=path,
            event_id=parts["event"],
            begins_at=datetime.fromtimestamp(int(parts["begin"]) / 1000, UTC),
            span=Span(int(parts["start"]), int(parts["end"])),
            frames=int(parts["frames"]),
            digest=parts["digest"],
            size_bytes=status.st_size,
            made_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )
