"""PictureStore: the bytes behind a picture's URI, never from outside its two folders.

`camera:<path>` lies below the cameras' base folder, where others write; `frame:<file id>/<n>.jpg`
was taken out of a video and lies in a folder of our own. Paths are opened step by step from their
root without following a link, so nothing that is swapped meanwhile can lead out of it.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.paths import escape_path, unescape_path

MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024

_FRAME: Final = re.compile(r"(file_[0-9a-f]{24})/([1-9][0-9]{0,3})\.jpg", re.ASCII)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class OutsideError(PermanentError):
    """A path that leads out of its root: a link, `..`, an absolute path, an odd name."""


class NotAFileError(PermanentError):
    """A pipe, a socket or a device where a file is expected."""


class VanishedError(PermanentError):
    """The file was moved or deleted after it was taken in."""


class ChangedSinceError(PermanentError):
    """The file holds other bytes than those that were taken in."""


class TooLargeError(PermanentError):
    """A picture of more bytes than the limit."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file opened for reading, with what it was at that moment."""

    stream: BinaryIO
    size_bytes: int
    modified_ns: int

    @property
    def again(self) -> str:
        """Return a path by which a library opens this very file, whatever its name."""
        return f"/dev/fd/{self.stream.fileno()}"

    def unchanged(self) -> bool:
        """Say whether the file is still what it was when it was opened."""
        now = os.fstat(self.stream.fileno())
        return (now.st_size, now.st_mtime_ns) == (self.size_bytes, self.modified_ns)


class PictureStore:
    """Pictures in local folders; its methods block and belong into a thread."""

    def __init__(self, base: Path, frames: Path, *, max_bytes: int = MAX_PICTURE_BYTES) -> None:
        self.base = base
        self.frames = frames
        self.max_bytes = max_bytes

    # --- reading ----------------------------------------------------------------------------

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        """Return a picture's bytes, checked against `expected_sha256` where that is given.

        Raises PermanentError for what will never be readable (vanished, outside, too large,
        overwritten), ServiceUnavailableError while the whole folder is away, else TransientError.
        """
        root, path = self._locate(uri)
        try:
            with _open_below(root, path) as file:
                if file.size_bytes > self.max_bytes:
                    raise TooLargeError(
                        f"picture {uri} has {file.size_bytes} bytes, more than the limit of "
                        f"{self.max_bytes}"
                    )
                data = file.stream.read(self.max_bytes + 1)
        except FileNotFoundError as error:
            raise self._missing(uri, root) from error
        except OSError as error:
            raise TransientError(f"picture {uri} cannot be read: {error.strerror}") from error
        if expected_sha256 is not None and sha256(data).hexdigest() != expected_sha256:
            raise ChangedSinceError(
                f"picture {uri} was overwritten since it was taken in: its bytes have another "
                "SHA-256 than its event says"
            )
        return data

    def path(self, uri: str) -> Path:
        """Return where a picture's bytes lie, links resolved; raises like `read`."""
        root, relative = self._locate(uri)
        return Path(root) / _resolved(root, relative)

    @contextmanager
    def open_camera_file(self, path: str) -> Iterator[OpenFile]:
        """Open a file by its raw path below the base folder.

        Raises OutsideError, NotAFileError, or the OSError of the system as it is.
        """
        with _open_below(os.path.realpath(self.base), path) as file:
            yield file

    def real_place(self, path: str) -> str:
        """Return `path` with the links among its folders resolved; raises OutsideError."""
        folder, slash, name = path.rpartition("/")
        root = os.path.realpath(self.base)
        return f"{_resolved(root, folder)}{slash}{name}" if slash else path

    def _locate(self, uri: str) -> tuple[str, str]:
        kind, _, rest = uri.partition(":")
        if kind == "camera":
            return os.path.realpath(self.base), unescape_path(rest)
        if kind == "frame" and _FRAME.fullmatch(rest):
            return os.path.realpath(self.frames), rest
        raise OutsideError(f"{escape_path(uri)!r} is not a picture's URI")

    def _missing(self, uri: str, root: str) -> Exception:
        if not os.path.isdir(root):
            return ServiceUnavailableError(
                "pictures", f"the folder {escape_path(root)} is away; mount or create it again"
            )
        return VanishedError(
            f"picture {uri} has vanished from {escape_path(root)}: it was moved or deleted before "
            "it was looked at"
        )

    # --- deleting ---------------------------------------------------------------------------

    def size_of(self, uri: str, sha256_hex: str | None) -> int | None:
        """Return the size of a file that still holds these bytes; None when there is none.

        Raises ServiceUnavailableError while the cameras' whole folder is away, TransientError
        when the file cannot be read.
        """
        try:
            root, path = self._locate(uri)
        except PermanentError:
            return None  # No picture's URI names no picture of ours.
        if not os.path.isdir(root) and root == os.path.realpath(self.base):
            raise self._missing(uri, root)
        try:
            with _open_below(root, path) as file:
                if sha256_hex is not None and _digest(file.stream) != sha256_hex:
                    return None
                return file.size_bytes
        except (FileNotFoundError, IsADirectoryError, PermanentError):
            return None
        except OSError as error:
            raise TransientError(f"{uri} cannot be read: {error.strerror}") from error

    def delete(self, uri: str, sha256_hex: str | None) -> bool:
        """Delete a file if it still holds these bytes; return whether it was there.

        Raises like `size_of`, and TransientError when the folder does not let it be deleted.
        """
        if self.size_of(uri, sha256_hex) is None:
            return False
        root, path = self._locate(uri)
        try:
            with _folder_below(root, path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TransientError(
                f"{uri} cannot be deleted ({error.strerror}): let the retention role write in "
                "the cameras' folders"
            ) from error
        return True

    # --- frames of videos -------------------------------------------------------------------

    def save_frame(self, file_id: str, number: int, jpeg: bytes) -> str:
        """Store frame `number` of a video, whole or not at all; return its URI.

        Raises TransientError naming the folder when it cannot be written (a full disk).
        """
        name = f"{file_id}/{number}.jpg"
        if not _FRAME.fullmatch(name):
            raise OutsideError(f"{escape_path(name)!r} is not a frame's name")
        target = self.frames / name
        part = target.with_suffix(".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                stream.write(jpeg)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            help_text = "free some space there" if error.errno in _NO_ROOM else "make it writable"
            raise TransientError(
                f"frames cannot be saved in {self.frames} ({error.strerror}): {help_text}; the "
                "video waits and is tried again"
            ) from error
        return f"frame:{name}"

    def discard_frames(self, file_id: str) -> None:
        """Remove the frames of a video that turned out to be a duplicate."""
        if not _FRAME.fullmatch(f"{file_id}/1.jpg"):
            raise OutsideError(f"{escape_path(file_id)!r} is not a file's id")
        shutil.rmtree(self.frames / file_id, ignore_errors=True)


def _digest(stream: BinaryIO) -> str:
    hasher = sha256()
    while chunk := stream.read(1 << 20):
        hasher.update(chunk)
    return hasher.hexdigest()


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise OutsideError(f"{escape_path(path)!r} is not a path below its folder")
    return parts


def _resolved(root: str, path: str) -> str:
    """Return `path` below `root` with every link in it resolved; raises OutsideError."""
    real = os.path.realpath(os.path.join(root, *_parts(path)))
    relative = os.path.relpath(real, root)
    if relative == "." or relative.split("/")[0] == "..":
        raise OutsideError(f"{escape_path(path)!r} is a link that leads out of its folder")
    return relative


@contextmanager
def _open_below(root: str, path: str) -> Iterator[OpenFile]:
    *folders, name = _resolved(root, path).split("/")
    with contextlib.ExitStack() as stack:
        at = _open_step(stack, root, None, os.O_DIRECTORY)
        try:
            for folder in folders:
                at = _open_step(stack, folder, at, os.O_DIRECTORY | os.O_NOFOLLOW)
            # A pipe opened without O_NONBLOCK would wait for its other end for ever.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise FileNotFoundError(error.errno, error.strerror) from error
            if error.errno == errno.ENXIO:
                raise NotAFileError(f"{escape_path(path)!r} is not a regular file") from error
            raise
        stack.callback(os.close, file)
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(f"{escape_path(path)!r} is not a regular file")
        stream = stack.enter_context(os.fdopen(file, "rb", closefd=False))
        yield OpenFile(stream, status.st_size, status.st_mtime_ns)


@contextmanager
def _folder_below(root: str, path: str) -> Iterator[tuple[int, str]]:
    """Open the folder that holds `path`, step by step; give it with the name in it."""
    *folders, name = _resolved(root, path).split("/")
    with contextlib.ExitStack() as stack:
        at = _open_step(stack, root, None, os.O_DIRECTORY)
        for folder in folders:
            at = _open_step(stack, folder, at, os.O_DIRECTORY | os.O_NOFOLLOW)
        yield at, name


def _open_step(stack: contextlib.ExitStack, name: str, at: int | None, flags: int) -> int:
    folder = os.open(name, os.O_RDONLY | flags, dir_fd=at)
    stack.callback(os.close, folder)
    return folder
