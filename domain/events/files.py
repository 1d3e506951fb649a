"""Stream `files`: what the watch found in the cameras' folders."""

from datetime import datetime
from typing import ClassVar, Literal

from domain.events.base import Event, Moment

CapturedFrom = Literal["exif", "name", "mtime", "arrival"]


class ImageReceived(Event, frozen=True, kw_only=True):
    """A whole picture lies in a camera's folder (or was taken out of a video there)."""

    TAG: ClassVar[str] = "image.received"
    STREAM: ClassVar[str] = "files"

    picture_id: str
    file_id: str
    path: str
    """Path of the file below FOSCAM_BASE_PATH, with `/`; bytes that are not UTF-8 are escaped."""
    uri: str
    """Where the picture's bytes are: `camera:<path>` or `frame:<file id>/<number>.jpg`."""
    sha256: str
    size_bytes: int
    width: int
    height: int
    captured_at: Moment
    captured_from: CapturedFrom
    frame: int = 0
    frame_offset_seconds: float | None = None

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class VideoReceived(Event, frozen=True, kw_only=True):
    """A whole video lies in a camera's folder; its frames follow as `image.received`."""

    TAG: ClassVar[str] = "video.received"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    duration_seconds: float
    frames: int
    captured_at: Moment
    captured_from: CapturedFrom

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class FileDuplicated(Event, frozen=True, kw_only=True):
    """The same bytes reached the same camera again within DEDUPE_TTL_SECONDS."""

    TAG: ClassVar[str] = "file.duplicated"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    sha256: str
    size_bytes: int
    duplicate_of: str
    """File id of the file whose bytes these are."""


class FileRejected(Event, frozen=True, kw_only=True):
    """A file that cannot become a picture, with the reason a person understands."""

    TAG: ClassVar[str] = "file.rejected"
    STREAM: ClassVar[str] = "files"

    file_id: str
    path: str
    size_bytes: int
    reason: str
    """Stable code: empty, truncated, unsupported, too_large, outside, unreadable, bad_name …"""
    detail: str
