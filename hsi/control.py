"""Carries out what people ask of the services that `hsi up` runs, and tells the log how they are.

Requests come as events of the stream `system` and are done in their order, one at a time; each is
answered by one `service.state_changed`, whose id follows from the request's: once, however often
the supervisor dies in between. What is disabled follows from these answers, so it stays so. All of
it is done only while this `hsi up` holds the control (see `hsi.holder`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM, ServiceStateChanged
from domain.ids import follow_up_id, instant
from hsi.holder import Holder, Say
from hsi.processes import Off, ServiceProcess, State
from runtime.tasks import end
from streams.continuity import LostEndError
from streams.envelope import NewEvent
from streams.log import EventLog
from streams.supervised import Request, Supervised, load_supervised

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0
BLOCK_MS: Final = 10_000
RUN: Final = 200
EXPIRED_SECONDS: Final = 60.0
"""An older request was answered with a failure long ago: doing it now would surprise."""
GOODBYE_SECONDS: Final = 2.0
NOT_HERE: Final = "by the present settings it is no part of this `hsi up`"

OpenLog = Callable[[], Awaitable[EventLog]]


class ServiceControl:
    """Stands between the log and the supervisor's processes."""

    def __init__(self, open_log: OpenLog, say: Say, instance: str) -> None:
        self._open_log = open_log
        self._say = say
        self._holder = Holder(instance, say)
        self._expected: frozenset[str] = frozenset()
        self._processes: list[ServiceProcess] = []
        self._known = Supervised()
        self._handled: set[str] = set()
        self._told: dict[str, State] = {}
        self._news: asyncio.Queue[NewEvent] = asyncio.Queue()
        self._unsent: list[NewEvent] = []

    async def open(self) -> None:
        """Read what the log has: what is disabled, what is asked for; waits while it is away."""
        loaded = asyncio.Event()

        async def load(log: EventLog) -> None:
            self._known = await load_supervised(log)
            loaded.set()

        while not loaded.is_set():
            await self._with_log(load)

    async def _with_log(self, use: Callable[[EventLog], Awaitable[None]]) -> None:
        """Use the log; when it is away, say so and return after a while.

        It is opened anew each time: what an earlier connection knew of a log that has lost its
        end does not count.
        """
        try:
            log = await self._open_log()
            try:
                await use(log)
            finally:
                await log.close()
        except (ServiceUnavailableError, LostEndError) as error:
            logger.warning("control of the services waits: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    def take(self, process: ServiceProcess) -> None:
        """Take a process in, before its first start; what is disabled in it stays so."""
        for service, by in self._known.disabled.items():
            if service in process.services and not process.fixed:
                process.off[service] = Off("disabled", by or "somebody earlier")
                self._say(f"{service} is disabled: `hsi services enable {service}` starts it")
        self._processes.append(process)

    def leave_out(self, expected: Collection[str]) -> None:
        """Know what this `hsi up` runs or will: that it does not run others is told."""
        self._expected = frozenset(expected)

    def _tell_all(self) -> None:
        """Tell anew how everything is: of what is ours, and of services that an earlier `hsi up`
        ran and this one will not; disabled ones stay so for the one that runs them again."""
        self._told.clear()
        for process in self._processes:
            self.tell(process)
        for service, word in self._known.services.items():
            facts = replace(
                word.facts, started_at=None, by="", failure_count=0, fixed=NOT_HERE, answers=""
            )
            if service not in self._expected and facts != replace(word.facts, answers=""):
                state = State(service, "stopped", NOT_HERE, facts)
                self._news.put_nowait(event_of(state, ""))

    # --- telling ----------------------------------------------------------------------------

    def tell(self, process: ServiceProcess) -> None:
        """Tell the log how the services of a process are, where that has changed."""
        if not self._holder.is_ours:
            return  # All of it is told once the control is ours.
        for state in process.states():
            if self._told.get(state.service) != state:
                self._news.put_nowait(event_of(state, ""))
                self._told[state.service] = state

    async def tell_on(self) -> None:
        """Append what there is to tell, for ever; while Redis is away it waits, in order."""
        while True:
            await self._with_log(self._tell_on)

    async def _tell_on(self, log: EventLog) -> None:
        while True:
            if not self._unsent:
                self._unsent.append(await self._news.get())
            while not self._news.empty():
                self._unsent.append(self._news.get_nowait())
            await log.append_all(self._unsent)
            self._unsent.clear()

    async def say_goodbye(self) -> None:
        """Tell that nothing runs any more; what Redis does not take in time is left out."""
        if not self._holder.is_ours:
            return
        states = [state for process in self._processes for state in process.states()]
        ended = [event_of(_ended(state), "") for state in states if state.facts.enabled]

        async def tell(log: EventLog) -> None:
            if await self._holder.is_still_ours(log):
                await log.append_all([*self._unsent, *ended])
                await self._holder.give_back(log)

        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._with_log(tell)

    # --- doing ------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Carry out what is asked for, in order, for ever, whenever the control is ours."""
        while True:
            await self._with_log(self._follow_when_ours)

    async def _follow_when_ours(self, log: EventLog) -> None:
        await self._holder.take(log)
        keeper = asyncio.create_task(self._holder.keep(log), name="control of the services")
        try:
            await self._follow(log)
        finally:
            await end(keeper)

    async def _follow(self, log: EventLog) -> None:
        self._known = await load_supervised(log)
        self._tell_all()  # The log may have lost what it was told last.
        lane = ("system", log.partition_of(SYSTEM))
        while self._holder.is_ours:
            for request in self._known.requests:
                if request.id not in self._handled and self._holder.is_ours:
                    self._handled.add(request.id)
                    await self._carry_out(request)
            self._handled &= {request.id for request in self._known.requests}
            at = {lane: self._known.position}
            for envelope in await log.follow(at, count=RUN, block_ms=BLOCK_MS):
                self._known = self._known.evolve(envelope)

    async def _carry_out(self, request: Request) -> None:
        process = _process_of(self._processes, request.service)
        if process is None or process.fixed:
            return  # The API refuses these; another `hsi up` may run it.
        if time.time() - request.ms / 1000 > EXPIRED_SECONDS:
            return
        self._say(f"{request.service}: {request.actor} asked for {request.action}")
        if decide(process, request):
            await process.restart()
        else:
            await process.settled()
        self.tell(process)
        (state,) = (each for each in process.states() if each.service == request.service)
        self._news.put_nowait(event_of(state, request.id))


def _process_of(processes: Iterable[ServiceProcess], service: str) -> ServiceProcess | None:
    return next((each for each in processes if service in each.services), None)


def decide(process: ServiceProcess, request: Request) -> bool:
    """Note what is wanted from now on; answer whether the process has to start anew for it."""
    off = process.off.get(request.service)
    match request.action:
        case "stop" if off is None:
            process.off[request.service] = Off("stopped", request.actor)
        case "disable" if off is None or off.status != "disabled":
            process.off[request.service] = Off("disabled", request.actor)
        case "enable":
            process.off.pop(request.service, None)
        case "start" | "restart" if off is not None and off.status == "stopped":
            del process.off[request.service]
    disabled = off is not None and off.status == "disabled"
    return not process.as_wanted or (request.action == "restart" and not disabled)


def _ended(state: State) -> State:
    """Return how a service is once `hsi up` has ended."""
    facts = replace(state.facts, started_at=None, by="", failure_count=0)
    return State(state.service, "stopped", "`hsi up` has ended", facts)


def event_of(state: State, request_id: str) -> NewEvent:
    """Return what tells of a state; the answer to a request is one event, whoever tells it."""
    now = datetime.now(UTC)
    event = ServiceStateChanged(
        camera_id=SYSTEM,
        service=state.service,
        status=state.status,
        message=state.message,
        changed_at=now,
        process=replace(state.facts, answers=request_id),
    )
    cause = request_id or f"{state.service}@{instant(now)}"
    new_id = follow_up_id(cause, event.TAG)
    return NewEvent(
        id=new_id, event=event, correlation_id=request_id or new_id, causation_id=request_id
    )
