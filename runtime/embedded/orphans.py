"""Processes left over from a supervisor that was killed: wait for them, then end them.

A server is known by its working folder, never by a stored process id: a pid can be reused.
"""

import time
from pathlib import Path

import psutil

from runtime.deadline import Deadline
from runtime.embedded.folders import EmbeddedError


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the live processes whose working folder is `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, a zombie, or somebody else's: not ours
    return found


def clear_out(folder: Path, program: str, *, patience: float = 15.0) -> None:
    """Return once no server works in `folder`; one that does not end by itself is killed."""
    if not folder.exists():
        return
    deadline = Deadline(patience)
    while left := processes_in(folder):
        strangers = [process for process in left if _name(process) not in (program, "")]
        if strangers:
            msg = (
                f"process {strangers[0].pid} ({_name(strangers[0])}) works in {folder}: "
                "end it and start again"
            )
            raise EmbeddedError(msg)
        if deadline.passed:
            _kill(left)
        time.sleep(0.02)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _kill(left: list[psutil.Process]) -> None:
    for process in left:
        try:
            process.kill()
        except psutil.Error:
            continue
