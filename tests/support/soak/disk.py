"""A small disk of its own for the servers, so that filling it hurts nobody else."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """An ext4 file system in a file where mounting is allowed (root), else a plain folder.

    Where it cannot be mounted `is_real` is False: nothing can be filled then, and the driver
    takes Valkey's memory away instead (`maxmemory`, nothing evicted), which refuses writes alike.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.root = folder / "disk"
        self._image = folder / "disk.img"
        self._ballast = self.root / "ballast"
        self.root.mkdir(mode=0o755)
        self.is_real = self._mount(megabytes)

    def _mount(self, megabytes: int) -> bool:
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
            return False
        with self._image.open("wb") as image:
            image.truncate(megabytes * 1024 * 1024)
        made = _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        if made and _run("mount", "-o", "loop", str(self._image), str(self.root)):
            return True
        self._image.unlink()
        return False

    def fill(self) -> None:
        """Leave no free block."""
        with self._ballast.open("wb") as ballast:
            for size in (64 * 1024 * 1024, 1024 * 1024, 4096):
                _take_all(ballast.fileno(), size)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount; the folder is the caller's to remove."""
        if self.is_real:
            _run("umount", "--lazy", str(self.root))
            self._image.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Give a small disk below `folder`; unmount it at the end."""
    disk = SmallDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.close()


def _take_all(descriptor: int, size: int) -> None:
    """Give the file `size` more bytes again and again, until there are not so many."""
    try:
        while True:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
    except OSError:
        return


def _run(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
