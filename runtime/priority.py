"""Processor time only where others leave some: for a process whose work can wait.

A plain `nice 19` does not do it. It is a weight, so whoever has it still gets a turn while others
want the processor; SCHED_IDLE goes last instead, and a processor on which only such work runs
counts as free when others wake up. And Linux weighs sessions against each other before it looks
into one (autogroups), while `hsi up` gives each process a session of its own: there the session is
what has to give way. Between containers neither counts: there the deployment says the weight
(`cpu_shares`).
"""

import os
from pathlib import Path
from typing import Final

LOWEST: Final = 19
AUTOGROUP: Final = Path("/proc/self/autogroup")
THREADS: Final = Path("/proc/self/task")


def give_way() -> None:
    """Let every other process go first, from now on, with all threads of this one."""
    try:
        for thread in THREADS.iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        os.nice(LOWEST)  # Another system, or one that forbids it.
    if os.getsid(0) == os.getpid():
        _lower_session()


def _lower_session() -> None:
    """Lower the weight of the session that is ours alone; never that of a shared one."""
    try:
        AUTOGROUP.write_text(str(LOWEST))
    except OSError:
        return  # No autogroups here: then nothing weighs sessions.
