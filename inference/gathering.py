"""Gathering: what several callers ask at the same time goes to the model as one request.

A request leaves at once while none is under way, so that a quiet house waits for nobody. While
one is, what comes in is gathered until it fills a request or the first of it has waited `delay`
seconds. No more than `in_flight` requests are under way; the rest waits here, in its order.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from domain.errors import HsiError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is gathered, and how much is under way."""

    delay: float = 0.003
    """Seconds that the first of a request waits for company while other requests are under way."""
    in_flight: int = 4
    """Requests under way at the same time."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    """One item, and who waits for its answer."""

    item: Item
    since: float
    answer: asyncio.Future[Answer]


class Gathering(Generic[Item, Answer]):
    """Makes requests of at most `size()` items out of what callers submit."""

    def __init__(
        self,
        ask: Callable[[list[Item]], Awaitable[list[Answer | HsiError]]],
        size: Callable[[], int],
        limits: Limits,
    ) -> None:
        self._ask = ask
        """Answers each item, or says why that one alone has no answer; may raise for all."""
        self._size = size
        self._limits = limits
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._requests: dict[asyncio.Task[list[Answer | HsiError]], list[_Waiting[Item, Answer]]]
        self._requests = {}
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, items: list[Item]) -> list[Answer]:
        """Return one answer an item, in their order; raises the first item's error that has one.

        A caller that is cancelled takes its items back; a request that nobody waits for any more
        is cancelled too.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        mine = [_Waiting(item, now, loop.create_future()) for item in items]
        self._waiting.extend(mine)
        self._send_what_may_go()
        try:
            # All of them are waited for: an error that nobody looks at would be complained about.
            answers = await asyncio.gather(*(w.answer for w in mine), return_exceptions=True)
        except asyncio.CancelledError:
            self._take_back()
            raise
        good: list[Answer] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            good.append(answer)
        return good

    async def close(self) -> None:
        """Cancel what is under way and what waits."""
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()
        tasks = list(self._requests)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()

    def _send_what_may_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._requests) < self._limits.in_flight:
            size = max(1, self._size())
            left = self._left()
            if self._requests and len(self._waiting) < size and left > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(left, self._send_what_may_go)
                return
            self._send([self._waiting.popleft() for _ in range(min(size, len(self._waiting)))])

    def _left(self) -> float:
        """Return for how much longer the first one may wait for company."""
        return self._waiting[0].since + self._limits.delay - asyncio.get_running_loop().time()

    def _send(self, run: list[_Waiting[Item, Answer]]) -> None:
        task = asyncio.ensure_future(self._ask([waiting.item for waiting in run]))
        self._requests[task] = run
        task.add_done_callback(partial(self._answered, run))

    def _answered(
        self,
        run: list[_Waiting[Item, Answer]],
        task: asyncio.Task[list[Answer | HsiError]],
    ) -> None:
        """Hand the answers out; whatever ended the request is what its callers get."""
        del self._requests[task]
        error = None if task.cancelled() else task.exception()
        answers = [error] * len(run) if error or task.cancelled() else task.result()
        for waiting, answer in zip(run, answers, strict=True):
            if waiting.answer.done():
                continue
            if answer is None:
                waiting.answer.cancel()
            elif isinstance(answer, BaseException):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self._send_what_may_go()

    def _take_back(self) -> None:
        """Forget the items of a cancelled caller, and the requests that nobody waits for."""
        self._waiting = deque(w for w in self._waiting if not w.answer.done())
        for task, run in list(self._requests.items()):
            if all(waiting.answer.done() for waiting in run):
                task.cancel()
