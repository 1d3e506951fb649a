"""Canary: some of the pictures go to a candidate detector, which can fail but never hold up.

A picture that the candidate does not answer in time goes to the detector in service, as all the
others, and says why. After a failure the candidate is left alone for a while.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from domain.errors import HsiError
from domain.trials import is_canary
from inference.ports import Detected, Detector, Picture

REST_SECONDS = 30.0
"""How long a candidate that failed is not asked again: a hanging one costs its limit once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the candidate gave no answer."""

    why: str


class Canary:
    """Asks the candidate about its share of the pictures."""

    def __init__(self, candidate: Detector, *, limit_seconds: float, percent: int = 0) -> None:
        self._candidate = candidate
        self._limit = limit_seconds
        self._rests_until = 0.0
        self._why = ""
        self.percent = percent
        """CANDIDATE_PERCENT; it may change at any time."""

    def takes(self, picture_id: str) -> bool:
        """Say whether this picture is one of the candidate's."""
        return is_canary(picture_id, self.percent)

    async def ask(self, pictures: Mapping[int, Picture]) -> Mapping[int, Detected | Failure]:
        """Return an answer or a failure for each picture; a candidate never makes it raise."""
        if not pictures:
            return {}
        if time.monotonic() < self._rests_until:
            return dict.fromkeys(pictures, Failure(f"not asked, it failed before: {self._why}"))
        try:
            async with asyncio.timeout(self._limit):
                answers = await self._answers(list(pictures.values()))
        except TimeoutError:
            return dict.fromkeys(pictures, self._failed(f"no answer within {self._limit:g} s"))
        except HsiError as error:
            return dict.fromkeys(pictures, self._failed(str(error)[:500]))
        return dict(zip(pictures, answers, strict=True))

    async def _answers(self, pictures: list[Picture]) -> list[Detected]:
        size = max(1, self._candidate.max_batch)
        answers: list[Detected] = []
        for start in range(0, len(pictures), size):
            answers += await self._candidate.detect(pictures[start : start + size])
        return answers

    def _failed(self, why: str) -> Failure:
        self._rests_until = time.monotonic() + REST_SECONDS
        self._why = why
        return Failure(why)
