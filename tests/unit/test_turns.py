"""Turns over two lanes: at most so many at once, the first lane first, the other in the end."""

import asyncio
from contextlib import suppress

from agents.turns import FIRST_IN_A_ROW, Turns


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Users:
    """Tasks that each hold a turn until they are told to go on."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.go_on: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, *, first: bool) -> None:
        self.go_on[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._use(name, first=first))
        await settle()

    async def _use(self, name: str, *, first: bool) -> None:
        async with self.turns.take(first=first):
            self.began.append(name)
            await self.go_on[name].wait()

    async def end(self, name: str) -> None:
        self.go_on[name].set()
        await self.tasks[name]
        await settle()


async def test_no_more_than_so_many_at_once_and_in_order() -> None:
    users = Users(Turns(2))
    for name in ("a", "b", "c", "d"):
        await users.add(name, first=False)
    assert users.began == ["a", "b"]
    await users.end("b")
    assert users.began == ["a", "b", "c"]
    for name in ("a", "c", "d"):
        await users.end(name)
    assert users.began == ["a", "b", "c", "d"]


async def test_the_first_lane_overtakes_but_the_other_never_starves() -> None:
    users = Users(Turns(1))
    await users.add("busy", first=False)
    await users.add("other", first=False)
    firsts = [f"first {number}" for number in range(FIRST_IN_A_ROW + 2)]
    for name in firsts:
        await users.add(name, first=True)
    order = ["busy"]
    while len(order) < len(firsts) + 2:
        await users.end(order[-1])
        order.append(users.began[-1])
    await users.end(order[-1])
    assert order == [
        "busy",
        *firsts[:FIRST_IN_A_ROW],
        "other",
        *firsts[FIRST_IN_A_ROW:],
    ]


async def test_who_gives_up_waiting_takes_no_turn_with_it() -> None:
    users = Users(Turns(1))
    await users.add("a", first=False)
    await users.add("gives up", first=True)
    await users.add("b", first=False)
    users.tasks["gives up"].cancel()
    await users.end("a")
    assert users.began == ["a", "b"]
    # given that one is cancelled in the same moment in which its turn comes
    await users.add("c", first=False)
    users.go_on["b"].set()
    await asyncio.sleep(0)
    users.tasks["c"].cancel()
    with suppress(asyncio.CancelledError):
        await users.tasks["c"]
    await users.add("d", first=False)
    assert users.began[-1] == "d"
    await users.end("d")


async def test_an_error_gives_the_turn_back() -> None:
    turns = Turns(1)
    for _ in range(2):
        with suppress(ValueError):
            async with turns.take(first=True):
                raise ValueError("its own affair")
