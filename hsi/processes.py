"""The processes that `hsi up` keeps, and the services that run in each.

A service is a role, like `detect`. Several share one process; to stop one of them its process is
drained and started again without it, so nothing that it had in hand is lost.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from domain.events import ProcessFacts, ServiceStatus
from hsi.keeper import MOST_RESTARTS, ChildWatch, Keeper, KeeperOptions, Say
from hsi.plan import Role

Launch = Callable[[Coroutine[Any, Any, None]], object]

SETTLE_SECONDS: Final = 35.0
"""How long a process that was started again may take until it answers, before we say so."""


@dataclass(frozen=True, slots=True)
class Off:
    """Why a service does not run, though its process may."""

    status: Literal["stopped", "disabled"]
    by: str


@dataclass(frozen=True, slots=True)
class State:
    """How a service is, in words and figures."""

    service: str
    status: ServiceStatus
    message: str
    facts: ProcessFacts


@dataclass(frozen=True, slots=True)
class Keeping:
    """What every process needs of its supervisor."""

    watch: ChildWatch
    say: Say
    launch: Launch
    changed: Callable[["ServiceProcess"], None]
    """Called whenever a process got ready or ended."""
    hurry: asyncio.Event
    host: str


class ServiceProcess:
    """One process: it runs with those of its services that are wanted."""

    def __init__(
        self,
        name: str,
        services: tuple[str, ...],
        make: Callable[[tuple[str, ...]], Role],
        keeping: Keeping,
        *,
        fixed: str = "",
    ) -> None:
        self.name = name
        self.services = services
        self.off: dict[str, Off] = {}
        self.keeper: Keeper | None = None
        self.fixed = fixed
        """Why nobody may stop it, where nobody may; then it is never given up either."""
        self.answered = asyncio.Event()
        """Set once it has answered, or nothing in it is wanted."""
        self._make = make
        self._keeping = keeping
        self._restarts = 0
        self._last_restart_at: datetime | None = None
        self._running: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the services that should run."""
        return tuple(service for service in self.services if service not in self.off)

    @property
    def is_ready(self) -> bool:
        """Say whether it answers."""
        return self.keeper is not None and self.keeper.ready.is_set()

    @property
    def as_wanted(self) -> bool:
        """Say whether it was started with the services that are wanted, and not given up."""
        given_up = self.keeper is not None and (self.keeper.failed or self.keeper.ended)
        return self._running == self.wanted and not given_up

    def start(self) -> None:
        """Start it with the wanted services, and keep it running; no process without any."""
        self._running = self.wanted
        self.keeper = None
        if not self._running:
            self.answered.set()
            return
        limit = None if self.fixed else MOST_RESTARTS
        options = KeeperOptions(limit=limit, on_end=self._changed)
        watch, say = self._keeping.watch, self._keeping.say
        keeper = Keeper(self._make(self._running), watch, say, self._changed, options)
        self.keeper = keeper

        async def keep() -> None:
            await keeper.keep()

        self._keeping.launch(keep())

    def _changed(self) -> None:
        if self.is_ready:
            self.answered.set()
        self._keeping.changed(self)

    async def stop(self) -> None:
        """Drain and end it; it is not started again."""
        if self.keeper is not None:
            await self.keeper.stop(self._keeping.hurry)

    async def restart(self) -> None:
        """Drain it, start it anew, and return once it answers, or has ended, or is slow."""
        await self.stop()
        if self.keeper is not None:
            self._restarts += self.keeper.restarts
        self._restarts += 1
        self._last_restart_at = datetime.now(UTC)
        self.start()
        if self.keeper is None:
            self._changed()
        else:
            await self.settled()

    async def settled(self) -> None:
        """Return once it is known whether the process started well; not later than in a while."""
        if self.keeper is not None:
            try:
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self.keeper.tried.wait()
            except TimeoutError:
                return

    def states(self) -> Iterator[State]:
        """Give the state of every service in it."""
        for service in self.services:
            off = self.off.get(service)
            status, message = self._off(off) if off else self._on()
            yield State(service, status, message, self._facts(off))

    def _off(self, off: Off) -> tuple[ServiceStatus, str]:
        return off.status, f"{off.status} by {off.by}"

    def _on(self) -> tuple[ServiceStatus, str]:
        keeper = self.keeper
        if keeper is None:
            return "stopped", "not started yet"
        if keeper.failed:
            return "failed", keeper.story
        if keeper.ended:
            return "stopped", "has done what it was started for"
        if keeper.ready.is_set() and keeper.pid is not None:
            return "running", f"runs in the process {self.name!r}"
        return "starting", keeper.story or f"the process {self.name!r} is started"

    def _facts(self, off: Off | None) -> ProcessFacts:
        keeper = self.keeper
        runs = keeper is not None and keeper.ready.is_set() and off is None
        own = (keeper.restarts, keeper.last_restart_at) if keeper else (0, None)
        return ProcessFacts(
            process=self.name,
            host=self._keeping.host,
            enabled=off is None or off.status != "disabled",
            failure_count=keeper.failures if keeper else 0,
            restart_count=self._restarts + own[0],
            last_restart_at=own[1] or self._last_restart_at,
            started_at=keeper.started_at if keeper and runs else None,
            by=off.by if off else "",
            fixed=self.fixed,
        )
