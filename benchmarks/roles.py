"""Roles of the product as processes of their own, ready and ended with a block."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

Child = subprocess.Popen[bytes]


@asynccontextmanager
async def roles(
    folder: Path,
    environ: Mapping[str, str],
    commands: Mapping[str, Sequence[str]],
    *,
    sessions: bool = False,
) -> AsyncIterator[Mapping[str, Child]]:
    """Run `hsi` once for each named command; all are ready when the block begins.

    With `sessions` each runs in a session of its own, as `hsi up` starts them: Linux weighs
    sessions against each other first. Without, all share the priority that ours was given.
    """
    children: dict[str, Child] = {}
    try:
        for name, arguments in commands.items():
            ready = folder / f"{name}.ready"
            children[name] = subprocess.Popen(
                hsi(*arguments),
                env=os.environ | environ | {"HSI_READY_FILE": str(ready)},
                stderr=(folder / f"{name}.err").open("w"),
                start_new_session=sessions,
            )
        for name in commands:
            await _wait_for(folder / f"{name}.ready", folder / f"{name}.err")
        yield children
    finally:
        for child in children.values():
            child.send_signal(signal.SIGTERM)
        for child in children.values():
            await asyncio.to_thread(child.wait, 20)


async def _wait_for(ready: Path, errors: Path) -> None:
    for _ in range(300):
        if ready.exists():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{ready.name}: {errors.read_text()[-2000:]}")


def hsi(*arguments: str) -> list[str]:
    """Return the command line of `hsi` with these arguments."""
    return [sys.executable, "-m", "hsi", *arguments]


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
