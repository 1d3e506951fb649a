"""Gathering: requests leave at once or in company, never more than allowed, nobody is mixed up."""

import asyncio

import pytest

from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from inference.gathering import Gathering, Limits

FOREVER = 3600.0


class Model:
    """Answers an item by its square, once it is let."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []
        self.cancelled = 0
        self.let = asyncio.Event()
        self.let.set()
        self.most = 0
        self._now = 0

    async def __call__(self, items: list[int]) -> list[int | HsiError]:
        self.requests.append(items)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._now -= 1
        if -1 in items:
            raise ServiceUnavailableError("detector", "away")
        return [PermanentError(f"refused {i}") if i == 99 else i * i for i in items]


def gathering(model: Model, *, size: int = 4, **limits: float) -> Gathering[int, int]:
    return Gathering(model, lambda: size, Limits(**limits))  # type: ignore[arg-type]


async def settled(model: Model, count: int) -> None:
    async with asyncio.timeout(5):
        while len(model.requests) < count:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0)


async def test_a_lone_caller_waits_for_nobody() -> None:
    model = Model()
    asked = gathering(model, delay=FOREVER)
    assert await asked.submit([2, 3]) == [4, 9]
    assert await asked.submit([]) == []
    assert model.requests == [[2, 3]]


async def test_callers_share_requests_up_to_the_size_and_get_their_own_answers() -> None:
    model = Model()
    model.let.clear()
    asked = gathering(model, delay=FOREVER, in_flight=8)
    tasks = [asyncio.create_task(asked.submit([n, n + 10])) for n in range(1, 7)]
    await settled(model, 3)
    model.let.set()
    assert await asyncio.gather(*tasks[:5]) == [[n * n, (n + 10) ** 2] for n in range(1, 6)]
    assert await tasks[5] == [36, 256]
    # The first left alone; the rest gathered, full ones first.
    assert [len(request) for request in model.requests] == [2, 4, 4, 2]


async def test_company_is_waited_for_no_longer_than_the_delay() -> None:
    model = Model()
    model.let.clear()
    asked = gathering(model, delay=0.05, in_flight=2)
    first = asyncio.create_task(asked.submit([1]))
    await settled(model, 1)
    second = asyncio.create_task(asked.submit([2]))
    await settled(model, 2)
    model.let.set()
    assert await first == [1]
    assert await second == [4]


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    model = Model()
    asked = gathering(model, size=1, delay=0.0, in_flight=3)
    model.let.clear()
    task = asyncio.create_task(asked.submit(list(range(12))))
    await settled(model, 3)
    model.let.set()
    assert await task == [n * n for n in range(12)]
    assert model.most == 3
    assert model.requests == [[n] for n in range(12)]


async def test_an_item_s_own_error_is_its_caller_s_alone() -> None:
    model = Model()
    model.let.clear()
    asked = gathering(model, size=8, delay=0.0, in_flight=1)
    tasks = [asyncio.create_task(asked.submit([n])) for n in (1, 99, 3)]
    await settled(model, 1)
    model.let.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == [1]
    assert isinstance(answers[1], PermanentError)
    assert answers[2] == [9]


@pytest.mark.parametrize("error", [ServiceUnavailableError, ZeroDivisionError])
async def test_what_ends_a_request_reaches_each_of_its_callers(error: type[Exception]) -> None:
    async def fails(items: list[int]) -> list[int | HsiError]:
        await asyncio.sleep(0)
        if error is ZeroDivisionError:
            raise ZeroDivisionError
        raise ServiceUnavailableError("detector", "away")

    asked = Gathering(fails, lambda: 4, Limits())
    tasks = [asyncio.create_task(asked.submit([n])) for n in range(3)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [error] * 3


async def test_a_cancelled_caller_takes_its_items_back_and_spares_the_others() -> None:
    model = Model()
    model.let.clear()
    asked = gathering(model, size=2, delay=FOREVER, in_flight=1)
    alone = asyncio.create_task(asked.submit([1]))
    await settled(model, 1)
    waiting = asyncio.create_task(asked.submit([2]))
    other = asyncio.create_task(asked.submit([3]))
    await asyncio.sleep(0)
    waiting.cancel()
    alone.cancel()
    await asyncio.gather(waiting, alone, return_exceptions=True)
    await settled(model, 2)
    assert model.cancelled == 1, "nobody waits for it any more"
    model.let.set()
    assert await other == [9]
    assert model.requests == [[1], [3]]


async def test_closing_ends_whoever_waits() -> None:
    model = Model()
    model.let.clear()
    asked = gathering(model, size=1, in_flight=1)
    tasks = [asyncio.create_task(asked.submit([n])) for n in range(3)]
    await settled(model, 1)
    await asked.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
    assert model.requests == [[0]]
