"""TrialGuard: takes a candidate out of the main line when it breaks a limit.

It follows the stream `trials` over all cameras from the last change of the percentage on, so that
a restart decides by the same comparisons. Two guards that see the same decide the same, once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from domain.errors import ServiceUnavailableError
from domain.events import CandidateCompared, Event, PromptCompared
from domain.trials import Agreement, Compared, Limits, breach
from runtime.tasks import is_set_within, unless_stopped
from streams.configuration import Change, change_settings
from streams.envelope import Position
from streams.live_settings import LiveSettings
from streams.log import EventLog

logger = logging.getLogger(__name__)

ACTOR = "trial guard"
READ_RUN = 200
BLOCK_MS = 1_000
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Watched:
    """Whom a guard watches: the setting that holds its percentage, and what tells of it."""

    setting: str
    outcome: Callable[[Event], Compared | None]


class TrialGuard:
    """Watches one candidate of this installation."""

    def __init__(
        self, log: EventLog, live: LiveSettings, limits: Limits, watched: Watched
    ) -> None:
        self._log = log
        self._live = live
        self._limits = limits
        self._watched = watched
        self._window: deque[Compared] = deque(maxlen=limits.window)
        self._since: int | None = None
        self._cursors: dict[tuple[str, int], Position] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the comparisons until `stop` is set."""
        while not stop.is_set():
            try:
                await self._step(stop)
            except ServiceUnavailableError as error:
                logger.warning("the trial guard waits for Redis: %s", error)
                await is_set_within(stop, RETRY_SECONDS)

    async def _step(self, stop: asyncio.Event) -> None:
        percent: int = getattr(self._live.current, self._watched.setting)
        if percent == 0:
            await is_set_within(stop, BLOCK_MS / 1000)
            return
        await self._begin_anew_if_changed()
        following = self._log.follow(self._cursors, count=READ_RUN, block_ms=BLOCK_MS)
        for envelope in await unless_stopped(stop, following) or ():
            self._cursors[envelope.stream, envelope.partition] = envelope.position
            compared = self._watched.outcome(envelope.event)
            if compared is not None:
                self._window.append(compared)
                if why := breach(self._limits, tuple(self._window)):
                    await self._withdraw(percent, why)
                    return

    async def _begin_anew_if_changed(self) -> None:
        """Forget what was seen before the percentage was set last."""
        since = self._live.changed.times.get(self._watched.setting, 0)
        if since == self._since:
            return
        self._window.clear()
        for partition in range(self._log.partitions):
            # Set in a file and never here: what is compared from now on counts.
            newest = await self._log.newest("trials", partition)
            self._cursors["trials", partition] = Position(since, 0) if since else newest
        self._since = since

    async def _withdraw(self, percent: int, why: str) -> None:
        changed = await change_settings(
            self._log,
            [Change(self._watched.setting, percent, 0, reason=why)],
            actor=ACTOR,
            command=f"{ACTOR}@{self._since}",
        )
        self._live.learn(changed)
        what = self._limits.what
        logger.warning("the candidate is withdrawn from %d %% of the %s: %s", percent, what, why)


def _of_detector(event: Event) -> Compared | None:
    if not isinstance(event, CandidateCompared):
        return None
    if event.error is not None:
        return Compared(failed=True)
    share = Agreement(event.matched, event.missing, event.surplus, event.drift).share
    return Compared(failed=False, share=share, latency_ms=event.candidate_ms)


def _of_prompt(event: Event) -> Compared | None:
    if not isinstance(event, PromptCompared):
        return None
    if event.error is not None:
        return Compared(failed=True)
    seconds = event.candidate_seconds
    latency_ms = None if seconds is None else seconds * 1000
    return Compared(failed=False, share=float(bool(event.agrees)), latency_ms=latency_ms)


DETECTOR: Final = Watched("candidate_percent", _of_detector)
PROMPT: Final = Watched("candidate_prompt_percent", _of_prompt)
