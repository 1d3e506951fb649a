"""ServiceWatch: whether a service that a stage depends on answers, told to the log on change."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from domain.errors import HsiError, ServiceUnavailableError
from domain.events import SYSTEM, ModelFacts, ServiceStateChanged, ServiceStatus
from domain.ids import follow_up_id, instant
from streams.envelope import NewEvent
from streams.gate import StateListener
from streams.log import EventLog

logger = logging.getLogger(__name__)

CHECK_SECONDS = 7.0
"""Between checks of a service that answers: a dead model is noticed within ten seconds."""
FIRST_CHECKS_SECONDS = 1.0
"""Between checks until a service has answered for the first time."""


class ServiceWatch:
    """Checks one service while nobody uses it, and reports what its stage meets."""

    def __init__(
        self, log: EventLog, service: str, check: Callable[[], Awaitable[ModelFacts | str]]
    ) -> None:
        self._log = log
        self._service = service
        self._check = check
        """Returns which model answers, or its name alone; raises HsiError when none does."""
        self._model: ModelFacts | None = None
        self._told: tuple[ServiceStatus, str, frozenset[str]] | None = None
        self._paused: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._answered_at = 0.0
        self._status: ServiceStatus = "waiting"
        self._message = "not asked yet"

    def gate_of(self, stage: str) -> StateListener:
        """Return what takes the word of a stage's gate: it closed, or it opened again."""

        def on_state(service: str, answers: bool, message: str) -> None:
            if service != self._service:
                logger.warning("%s: %s", service, message)
            elif answers:
                self._paused -= {stage}
                self._changed.set()  # The next check says what answers now.
            else:
                self._paused |= {stage}
                self._set("unhealthy", message)

        return on_state

    def answered(self) -> float:
        """Return when (monotonic) the last check had an answer; 0 before the first."""
        return self._answered_at

    async def run(self, stop: asyncio.Event) -> None:
        """Check and tell until `stop` is set."""
        while not stop.is_set():
            await self._ask()
            await self._tell()
            await self._wait(stop)

    async def _ask(self) -> None:
        try:
            began = time.monotonic()
            found = await self._check()
            self._model = ModelFacts(model=found) if isinstance(found, str) else found
            self._set("healthy", self._model.line)
            self._answered_at = began
        except ServiceUnavailableError as error:
            first = self._status == "waiting"
            self._set("waiting" if first else "unhealthy", str(error))
        except HsiError as error:
            self._set("unhealthy", str(error))

    def _set(self, status: ServiceStatus, message: str) -> None:
        self._status, self._message = status, message
        self._changed.set()

    async def _tell(self) -> None:
        """Append the state if it is another one than the log was told last."""
        state, paused = (self._status, self._message), self._paused
        # The words of an error change with every try; the state does not.
        news = (state[0], state[1] if state[0] == "healthy" else "", paused)
        if news == self._told:
            return
        now = datetime.now(UTC)
        event = ServiceStateChanged(
            camera_id=SYSTEM,
            service=self._service,
            status=state[0],
            message=state[1],
            changed_at=now,
            paused_stages=tuple(sorted(paused)),
            model=self._model,
        )
        new_id = follow_up_id(f"{self._service}@{instant(now)}", event.TAG)
        try:
            await self._log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
        except ServiceUnavailableError as error:
            logger.warning("%s is %s; telling the log waits: %s", self._service, state[0], error)
            return
        self._told = news
        level = logging.INFO if state[0] == "healthy" else logging.WARNING
        logger.log(level, "%s is %s: %s", self._service, *state)

    async def _wait(self, stop: asyncio.Event) -> None:
        """Wait for the next check, for a change, or for the end."""
        self._changed.clear()
        seconds = CHECK_SECONDS if self._status == "healthy" else FIRST_CHECKS_SECONDS
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._changed)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
