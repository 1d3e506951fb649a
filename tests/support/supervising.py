"""A supervisor as in `hsi up`, over processes that do nothing but be there."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from hsi.control import ServiceControl
from hsi.keeper import ChildWatch
from hsi.plan import Role
from hsi.processes import Keeping, ServiceProcess
from runtime.tasks import end
from streams.log import EventLog

SERVICES = ("watch", "detect")
SERVE = 'echo {} > "$0"; exec sleep 600'
FAIL = "exit 3"


@dataclass
class Supervisor:
    """What a test sees of it."""

    control: ServiceControl
    process: ServiceProcess
    api: ServiceProcess
    said: list[str] = field(default_factory=list)
    starts: list[tuple[str, ...]] = field(default_factory=list)
    """With which services the process was started, in order."""
    program: str = SERVE


@asynccontextmanager
async def supervising(
    valkey_url: str, folder: Path, instance: str = "here", watch: ChildWatch | None = None
) -> AsyncIterator[Supervisor]:
    """Run a supervisor; at the end it is gone as if it was killed, but for its processes."""
    with nullcontext(watch) if watch else watching_children() as watch:
        async with _supervising(valkey_url, folder, instance, watch) as running:
            yield running


@contextmanager
def watching_children() -> Iterator[ChildWatch]:
    """Hear of processes that end; only one at a time can."""
    watch = ChildWatch()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, watch.wake)
    try:
        yield watch
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


@asynccontextmanager
async def _supervising(
    valkey_url: str, folder: Path, instance: str, watch: ChildWatch
) -> AsyncIterator[Supervisor]:
    tasks, said = list[asyncio.Task[None]](), list[str]()

    async def open_log() -> EventLog:
        return await EventLog.open(valkey_url)

    control = ServiceControl(open_log, said.append, instance)
    keeping = Keeping(
        watch=watch,
        say=said.append,
        launch=lambda work: tasks.append(asyncio.create_task(work)),
        changed=control.tell,
        hurry=asyncio.Event(),
        host="test",
    )

    def make(services: tuple[str, ...]) -> Role:
        running.starts.append(services)
        ready = folder / "ready.json"
        return Role(
            name="pipeline",
            argv=("/bin/sh", "-c", running.program, str(ready)),
            env={},
            log=folder / "pipeline.log",
            contains=services,
            ready_file=ready,
        )

    process = ServiceProcess("pipeline", SERVICES, make, keeping)
    api = ServiceProcess("api", ("api",), make, keeping, fixed="it answers these requests")
    running = Supervisor(control, process, api, said)
    await control.open()
    tasks.append(asyncio.create_task(control.tell_on()))
    control.take(process)
    control.take(api)
    process.start()
    control.tell(process)
    control.tell(api)
    await process.answered.wait()
    control.leave_out({*SERVICES, "api"})
    tasks.append(asyncio.create_task(control.follow()))
    try:
        yield running
    finally:
        await end(*tasks[:1], *tasks[-1:])
        await process.stop()
        await end(*tasks)
