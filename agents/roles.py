"""What one process of agents runs, and the order in which that starts and stops."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from agents.cameras import LogCameraDirectory
from agents.ready import say_ready
from domain.errors import HsiError
from domain.risk import Bands
from inference.pictures import PictureStore
from runtime.deadline import Deadline
from runtime.settings import Settings
from runtime.tasks import end
from streams.channel import ChannelOptions, Handler, StreamChannel
from streams.live_settings import LiveSettings
from streams.log import EventLog

Side = Callable[[asyncio.Event], Awaitable[None]]


@dataclass
class Roles:
    """What one process runs, as it is put together."""

    settings: Settings
    log: EventLog
    app: Any
    cameras: LogCameraDirectory
    contexts: AsyncExitStack
    live: LiveSettings
    consumer: str = field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    sides: dict[str, Side] = field(default_factory=dict)
    """Named background tasks; one that ends unasked ends the process."""
    producers: set[str] = field(default_factory=set)
    channels: list[StreamChannel] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        """Return the cameras' time zone."""
        return ZoneInfo(self.settings.camera_timezone)

    @property
    def bands(self) -> Bands:
        """Return the highest score of each level."""
        s = self.settings
        return Bands(s.severity_low_max, s.severity_medium_max, s.severity_high_max)

    def pictures(self) -> PictureStore:
        """Return the store of the cameras' pictures and the frames taken out of videos."""
        return PictureStore(self.settings.foscam_base_path, self.settings.state_dir / "frames")

    def channel(self, group: str, options: ChannelOptions) -> StreamChannel:
        """Open the channel that feeds a role."""
        channel = StreamChannel(self.app, self.log, group, self.consumer, options)
        self.channels.append(channel)
        self.sides[f"{group} channel"] = channel.watch
        return channel

    def agent(self, name: str, options: ChannelOptions, handler: Handler) -> StreamChannel:
        """Let a faust agent answer one outcome for each entry of its stream."""
        channel = self.channel(name, options)

        async def runs(stream: Any) -> None:  # noqa: ANN401 - faust's stream
            async for run in stream:
                await channel.handle(run, handler)

        self.app.agent(channel.runs, name=f"hsi.{name}", concurrency=options.concurrency)(runs)
        return channel


STOP_SECONDS: Final = 12.0
"""What all of a stop takes at most; `hsi up` waits 15 s before it kills, containers 30 s."""


async def run_until_stopped(roles: Roles, names: Sequence[str], stop: asyncio.Event) -> None:
    """Start agents, channels, producers; stop producers, channels, agents, then the rest.

    One deadline holds for the whole stop, of which producers get half: what is not finished by
    then stays pending in the log.
    """
    producers_stop, sides_stop = asyncio.Event(), asyncio.Event()
    roles.app.finalize()
    await roles.app.start()
    roles.app.flow_control.resume()
    for channel in roles.channels:
        await channel.start()
    tasks = {
        asyncio.create_task(
            _named(side, producers_stop if name in roles.producers else sides_stop), name=name
        )
        for name, side in roles.sides.items()
    }
    say_ready(names)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        deadline = Deadline(STOP_SECONDS)
        producers_stop.set()
        await _finished(tasks, roles.producers, STOP_SECONDS / 2)
        await _drained(roles.channels, deadline)
        await roles.app.stop()
        sides_stop.set()
        await _finished(tasks, set(roles.sides), deadline.remaining)
        for task in done - {stopped}:
            task.result()
            raise HsiError(f"the task {task.get_name()!r} ended unasked")
    finally:
        await end(*tasks, stopped)


async def _named(side: Side, stop: asyncio.Event) -> None:
    await side(stop)


async def _drained(channels: Sequence[StreamChannel], deadline: Deadline) -> None:
    """Stop the channels side by side, each with what is left of the deadline."""
    for channel in channels:
        channel.drain_seconds = round(deadline.remaining, 1)
    await asyncio.gather(*(channel.stop() for channel in channels))


async def _finished(tasks: set[asyncio.Task[None]], names: set[str], seconds: float) -> None:
    """Wait so long at most for the named tasks to end by themselves."""
    waited = [task for task in tasks if task.get_name() in names]
    if waited:
        await asyncio.wait(waited, timeout=seconds)


def stop_on_signals() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
