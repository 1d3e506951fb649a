"""Walk a folder tree in bounded runs: what lies there, oldest first, with its signature.

Nothing is read but directory entries. Links to folders are not followed (they come out as a path
of their own, to be looked at once); a folder that cannot be read or vanishes is left out.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from domain.paths import escape_path, is_passing

RUN: Final = 256
"""Files handed out at once."""
SORTED_AT_ONCE: Final = 20_000
"""Entries of one folder that are sorted by time together; more are sorted in several runs."""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A file as its directory entry tells."""

    modified_ns: int
    path: str
    """Raw, below the base folder."""
    size_bytes: int

    @property
    def signature(self) -> str:
        """Return what the log knows a file by."""
        return f"{self.size_bytes}:{self.modified_ns}"


def runs_below(base: str, start: str, complain: Callable[[str], None]) -> Iterator[list[Found]]:
    """Yield runs of files below `start` (empty: all); `complain` hears of unreadable folders."""
    if start and os.path.realpath(where := os.path.join(base, start)) != where:
        return
    folders = [start]
    while folders:
        folder = folders.pop()
        inside: list[str] = []
        entries = _entries(base, folder, inside, complain)
        while batch := list(itertools.islice(entries, SORTED_AT_ONCE)):
            batch.sort()
            for at in range(0, len(batch), RUN):
                yield batch[at : at + RUN]
        # The last one is taken next: dated folders come in the order of their days.
        folders += sorted(inside, reverse=True)


def _entries(
    base: str, folder: str, inside: list[str], complain: Callable[[str], None]
) -> Iterator[Found]:
    try:
        with os.scandir(os.path.join(base, folder) if folder else base) as entries:
            for entry in entries:
                if is_passing(entry.name):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    inside.append(path)
                    continue
                yield _found(entry, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        where = escape_path(folder) or "the base folder"
        complain(f"{where} cannot be read ({error.strerror}); let the account of HSI read it")


def _found(entry: os.DirEntry[str], path: str) -> Found:
    try:
        status = entry.stat()
    except OSError:
        # Vanished, or in a folder that only shows names: a look will tell.
        return Found(0, path, 0)
    return Found(status.st_mtime_ns, path, status.st_size)
