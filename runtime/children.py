"""Child processes that never outlive their parent: start, ask, stop under a deadline.

On Linux the kernel sends a child its death signal when the *thread* that started it ends, so
children are started from the main thread only.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from domain.errors import HsiError

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_LOG_LIMIT_BYTES: Final = 8 * 1024 * 1024

Child = subprocess.Popen[bytes]
Escalation = Sequence[tuple[signal.Signals, float]]
"""Signals in the order they are sent, each with the seconds the child has to obey it."""


class ChildError(HsiError):
    """A child process could not be started, or ended at once."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a child runs as when the parent is root."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and as whom; output is appended to `log`."""

    argv: Sequence[str]
    log: Path
    death_signal: signal.Signals = signal.SIGTERM
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    account: Account | None = None
    stdin: bytes = b""
    umask: int = -1
    """-1: as ours."""
    pass_fds: Sequence[int] = ()
    """Open files that the child has, too, under the same numbers."""


def spawn(command: Command) -> Child:
    """Start the command as a direct child; raises ChildError when it cannot be run."""
    if threading.current_thread() is not threading.main_thread():
        msg = f"{command.argv[0]}: children are started from the main thread only"
        raise RuntimeError(msg)
    rotate_log(command.log)
    account = command.account
    try:
        with command.log.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own binaries, no shell
                list(command.argv),
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.env) or None,
                cwd=command.cwd,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                umask=command.umask,
                # A Ctrl-C of the terminal reaches only the parent, which stops them in order.
                start_new_session=True,
                pass_fds=command.pass_fds,
                preexec_fn=_die_with_parent(command.death_signal),
            )
    except (OSError, subprocess.SubprocessError) as error:
        msg = f"{command.argv[0]} cannot be run: {error}"
        raise ChildError(msg) from error
    if child.stdin is not None:
        with child.stdin as pipe:
            pipe.write(command.stdin)
    return child


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return what the child does between fork and exec, after it changed its user."""
    parent = os.getpid()

    def prepare() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the kernel knew our wish

    return prepare


def stop(child: Child, escalation: Escalation) -> int:
    """Send the signals one after the other until the child has ended; return its exit status."""
    for number, seconds in escalation:
        if child.poll() is not None:
            break
        child.send_signal(number)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if child.poll() is None:
        child.kill()
    return child.wait()


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log file, empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def rotate_log(log: Path) -> None:
    """Move a log that grew too big aside, so that it never fills the disk."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))
