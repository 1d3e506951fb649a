"""Where the embedded servers keep things: state folder, sockets, lock, secret, account."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from domain.errors import HsiError
from runtime.children import Account

SOCKET_PATH_LIMIT: Final = 107
"""Bytes in a Unix socket's path (`sun_path` of 108 with its closing zero)."""
LONGEST_SOCKET_NAME: Final = ".s.PGSQL.5432"
LOCK_NAME: Final = "supervisor.lock"


class EmbeddedError(HsiError):
    """An embedded server cannot be started or used; the message says what to do."""


class AlreadyRunningError(EmbeddedError):
    """Another supervisor uses this state folder."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The parts of one state folder and the account that the servers run as."""

    state: Path
    sockets: Path
    account: Account | None
    """None: the servers run as we do."""

    @classmethod
    def prepare(cls, state: Path, *, for_servers: bool = True) -> Self:
        """Create what is missing; raises EmbeddedError when the servers could not reach it."""
        state = _own_state_folder(state)
        account = _account(state) if for_servers else None
        if account is not None:
            _check_reachable(state, account)
        folders = cls(state, _socket_folder(state, account), account)
        for folder in (folders.valkey, folders.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        folders.give(folders.valkey)
        return folders

    @property
    def valkey(self) -> Path:
        """Valkey's data."""
        return self.state / "valkey"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data (pgdata)."""
        return self.state / "postgres"

    @property
    def logs(self) -> Path:
        """What the servers and roles write."""
        return self.state / "logs"

    def give(self, path: Path) -> None:
        """Hand a file or folder of ours to the account of the servers."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def discard_sockets(self) -> None:
        """Remove a socket folder outside the state folder; a later start makes it again."""
        if self.sockets.parent != self.state:
            with contextlib.suppress(OSError):
                self.sockets.rmdir()

    def secret(self) -> str:
        """Return the servers' password, made at the first start."""
        file = self.state / "secret"
        if not file.exists():
            descriptor, name = tempfile.mkstemp(dir=self.state, prefix=".secret-")
            with os.fdopen(descriptor, "w") as fresh:
                fresh.write(secrets.token_urlsafe(32))
                fresh.flush()
                os.fsync(descriptor)
            Path(name).replace(file)
        return file.read_text().strip()


class StateLock:
    """One supervisor for a state folder; the kernel lets go of it whenever we die."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, state: Path) -> Self:
        """Take the lock; raises AlreadyRunningError naming who has it."""
        path = state / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            msg = f"state folder {state} cannot be used: {error}; choose another with --state"
            raise EmbeddedError(msg) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            msg = (
                f"state folder {state} is in use by another hsi (process {pid}); "
                "stop that one, or choose another folder with --state"
            )
            raise AlreadyRunningError(msg) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let the next supervisor in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _own_state_folder(state: Path) -> Path:
    """Create the state folder, closed to others but passable for the servers' account."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        state = state.expanduser().resolve()
        state.mkdir(mode=mode, parents=True, exist_ok=True)
        ours = (state / LOCK_NAME).exists() or not any(state.iterdir())
        if ours and os.geteuid() == 0:
            state.chmod(stat.S_IMODE(state.stat().st_mode) | 0o111)
    except OSError as error:
        msg = f"state folder {state} cannot be made or read: {error}; choose another with --state"
        raise EmbeddedError(msg) from error
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        msg = f"state folder {state} belongs to another account; choose another with --state"
        raise EmbeddedError(msg)
    return state


def _account(state: Path) -> Account | None:
    """Return who the servers run as when we are root (PostgreSQL refuses root)."""
    if os.geteuid() != 0:
        _account_of(os.geteuid())
        return None
    for folder in (state / "postgres", state):
        owner = folder.stat().st_uid if folder.exists() else 0
        if owner != 0:
            return _account_of(owner)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        msg = (
            "PostgreSQL refuses to run as root and there is no account `nobody`: run hsi as an "
            f"ordinary user, or make {state} belong to one, or set DATABASE_URL and REDIS_URL"
        )
        raise EmbeddedError(msg) from None
    return Account(nobody.pw_uid, nobody.pw_gid, "nobody")


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        msg = (
            f"user id {uid} has no entry in the accounts of this machine, which PostgreSQL needs: "
            "run hsi as another user, or set DATABASE_URL and REDIS_URL"
        )
        raise EmbeddedError(msg) from None
    return Account(uid, entry.pw_gid, entry.pw_name)


def _check_reachable(state: Path, account: Account) -> None:
    for folder in (state, *state.parents):
        if not passable(folder, account):
            msg = (
                f"the embedded servers run as {account.name} (PostgreSQL refuses root), which "
                f"may not pass through {folder}: choose a state folder outside it with --state, "
                "for example /var/lib/hsi"
            )
            raise EmbeddedError(msg)


def passable(folder: Path, account: Account) -> bool:
    """Return whether the account may pass through the folder, by its mode bits."""
    info = folder.stat()
    if info.st_uid == account.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == account.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _socket_folder(state: Path, account: Account | None) -> Path:
    """Return a 0700 folder whose sockets fit into the kernel's limit."""
    for folder in (state / "run", *_short_folders(state)):
        if _fit_for_sockets(folder):
            break
    else:
        msg = (
            f"no folder for sockets: the paths of {state} and TMPDIR are too long; set TMPDIR=/tmp"
        )
        raise EmbeddedError(msg)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    info = folder.lstat()
    owner = account.uid if account else os.geteuid()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (owner, 0):
        msg = f"{folder} is not a folder of ours: remove it and start again"
        raise EmbeddedError(msg)
    folder.chmod(0o700)
    if info.st_uid != owner:
        os.chown(folder, owner, -1)
    return folder


def _fit_for_sockets(folder: Path) -> bool:
    """Return whether every client can name a socket there: libpq splits a host at commas."""
    path = os.fsencode(folder / LONGEST_SOCKET_NAME)
    return len(path) <= SOCKET_PATH_LIMIT and re.fullmatch(rb"[\w./ +=@~-]+", path) is not None


def _short_folders(state: Path) -> list[Path]:
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
    uid = os.geteuid()
    bases = [Path("/run") if uid == 0 else Path(f"/run/user/{uid}"), Path(tempfile.gettempdir())]
    return [base / f"hsi-{uid}-{digest}" for base in bases if os.access(base, os.W_OK)]
