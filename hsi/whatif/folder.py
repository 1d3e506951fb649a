"""The folder of one run: what was asked, its segments, how far it is; one process at a time."""

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from domain.errors import HsiError
from domain.events import Moment
from hsi.whatif.recorded import Span
from streams.replay import Bounds

Kind = TypeVar("Kind")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for; a run goes on only for the same."""

    last: str | None = None
    begin: str | None = None
    end: str | None = None
    cameras: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    """`NAME=VALUE`, sorted; passwords in URLs are masked."""
    refine: bool = False
    rules: str | None = None
    """Version of the rules with the weights to try."""
    prompt: str | None = None
    """Version and checksum of the prompt to try."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does, fixed at its first start."""

    asked: Asked
    span: Span
    incarnation: str
    """Life of the log that it reads."""
    bounds: list[Bounds]
    """One a partition."""
    begun_at: Moment


class RunFolder:
    """`<state>/replays/<name>`; used as a context it is locked against a second process."""

    def __init__(self, replays: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise HsiError(
                f"--name {name!r} is not a name: take up to 64 of A-Z a-z 0-9 . _ -, beginning "
                "with a letter or digit"
            )
        self.name = name
        self.path = replays / name
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HsiError(f"the run's folder {self.path} cannot be made: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise HsiError(
                f"the run {self.name!r} is going on in another process: wait for it, or choose "
                "another --name"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def load(self, name: str, kind: type[Kind]) -> Kind | None:
        """Return what was stored as `name`, None when it was not."""
        try:
            data = (self.path / f"{name}.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise HsiError(
                f"{self.path / name}.json is not readable by this version ({error}): choose "
                "another --name, or remove the folder"
            ) from error

    def store(self, name: str, value: object) -> None:
        """Store a value whole or not at all."""
        part = self.path / f"{name}.json.part"
        with part.open("wb") as file:
            file.write(msgspec.json.encode(value))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path / f"{name}.json")

    def segment(self, name: str, *, keep: int = 0) -> "Segment":
        """Open a segment for writing behind its first `keep` bytes."""
        return Segment(self.path_of(name), keep)

    def path_of(self, name: str) -> Path:
        """Return where a segment lies."""
        return self.path / f"{name}.jsonl"

    def lines(self, name: str) -> Iterator[bytes]:
        """Give the lines of a segment without their ends."""
        with self.path_of(name).open("rb") as file:
            for line in file:
                yield line[:-1]


class Segment:
    """A file of JSON lines, one event a line, that only grows."""

    def __init__(self, path: Path, keep: int) -> None:
        self._file = path.open("r+b" if keep else "wb")
        self._file.truncate(keep)
        self._file.seek(keep)
        self._encoder = msgspec.json.Encoder()

    def write(self, value: msgspec.Struct) -> None:
        """Add an event, or what else the segment is about."""
        self._file.write(self._encoder.encode(value) + b"\n")

    def sync(self) -> int:
        """Bring it onto the disk; return its length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
