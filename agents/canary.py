"""Canary: some of what comes goes to a candidate, which can fail but never hold up.

A picture or an event that the candidate does not answer in time goes to what is in service, as all
the others, and says why. After a failure the candidate is left alone for a while.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from domain.errors import HsiError
from domain.trials import is_canary
from inference.ports import Detected, Detector, Picture, RiskModel, RiskOpinion, RiskQuestion

REST_SECONDS = 30.0
"""How long a candidate that failed is not asked again: a hanging one costs its limit once."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the candidate gave no answer."""

    why: str


class Canary:
    """Asks the candidate about its share of the pictures."""

    def __init__(self, candidate: Detector, *, limit_seconds: float, percent: int = 0) -> None:
        self._candidate = candidate
        self._patience = _Patience(limit_seconds)
        self.percent = percent
        """CANDIDATE_PERCENT; it may change at any time."""

    def takes(self, picture_id: str) -> bool:
        """Say whether this picture is one of the candidate's."""
        return is_canary(picture_id, self.percent)

    async def ask(self, pictures: Mapping[int, Picture]) -> Mapping[int, Detected | Failure]:
        """Return an answer or a failure for each picture; a candidate never makes it raise."""
        if not pictures:
            return {}
        answers = await self._patience.ask(lambda: self._answers(list(pictures.values())))
        if isinstance(answers, Failure):
            return dict.fromkeys(pictures, answers)
        return dict(zip(pictures, answers, strict=True))

    async def _answers(self, pictures: list[Picture]) -> list[Detected]:
        size = max(1, self._candidate.max_batch)
        answers: list[Detected] = []
        for start in range(0, len(pictures), size):
            answers += await self._candidate.detect(pictures[start : start + size])
        return answers


class PromptCanary:
    """Asks the candidate prompt about its share of the events."""

    def __init__(self, candidate: RiskModel, *, limit_seconds: float, percent: int = 0) -> None:
        self._candidate = candidate
        self._patience = _Patience(limit_seconds)
        self.percent = percent
        """CANDIDATE_PROMPT_PERCENT; it may change at any time."""

    def takes(self, event_id: str) -> bool:
        """Say whether this event is one of the candidate's."""
        return is_canary(event_id, self.percent)

    async def ask(self, question: RiskQuestion) -> RiskOpinion | Failure:
        """Return the candidate's opinion or its failure; a candidate never makes it raise."""
        return await self._patience.ask(lambda: self._candidate.assess(question))


class _Patience:
    """Waits for a candidate up to a limit, and after a failure not at all for a while."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._rests_until = 0.0
        self._why = ""

    async def ask(self, asking: Callable[[], Awaitable[Answer]]) -> Answer | Failure:
        if time.monotonic() < self._rests_until:
            return Failure(f"not asked, it failed before: {self._why}")
        try:
            async with asyncio.timeout(self._limit):
                return await asking()
        except TimeoutError:
            return self._failed(f"no answer within {self._limit:g} s")
        except HsiError as error:
            return self._failed(str(error)[:500])

    def _failed(self, why: str) -> Failure:
        self._rests_until = time.monotonic() + REST_SECONDS
        self._why = why
        return Failure(why)
