"""A small HTTP load generator: keep-alive connections that send GETs and time the answers.

It parses just enough of an answer to know where it ends, so that on a machine with two cores most
of the processor time is left to the server.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass
class Answers:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    """Answers that were not 200."""
    octets: int = 0

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the waiting times."""
        return round(float(np.percentile(np.array(self.seconds), percent)) * 1000, 2)


class _Connection(asyncio.Protocol):
    """One request at a time; `ask` answers its status and size."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answered: asyncio.Future[tuple[int, int]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0 or self._answered is None:
            return
        head = bytes(self._received[:head_end]).lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        whole = head_end + len(_HEAD_END) + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._received) >= whole:
            del self._received[:whole]
            self._answered.set_result((int(head[9:12]), whole))

    def ask(self, path: str) -> asyncio.Future[tuple[int, int]]:
        """Send a request."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return self._answered

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Load:
    """Connections to one server."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._address = (host, port)
        self._count = connections
        self._connections: list[_Connection] = []

    async def __aenter__(self) -> "Load":
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, made = await loop.create_connection(_Connection, *self._address)
            self._connections.append(made)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    async def saturate(self, path: Callable[[], str], seconds: float) -> Answers:
        """Ask on every connection, one request after the other."""
        answers = Answers()
        until = time.perf_counter() + seconds

        async def ask(connection: _Connection) -> None:
            while (began := time.perf_counter()) < until:
                await self._one(connection, path(), began, answers)

        await asyncio.gather(*[ask(connection) for connection in self._connections])
        return answers

    async def steadily(self, path: Callable[[], str], rate: float, seconds: float) -> Answers:
        """Ask at a fixed rate; a request counts from when it was due, also while it waits."""
        answers = Answers()
        begin = time.perf_counter()
        queue: asyncio.Queue[float] = asyncio.Queue()

        async def ask(connection: _Connection) -> None:
            while (due := await queue.get()) >= 0:
                await self._one(connection, path(), due, answers)

        asking = [asyncio.create_task(ask(connection)) for connection in self._connections]
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            queue.put_nowait(due)
        for _ in asking:
            queue.put_nowait(-1.0)
        await asyncio.gather(*asking)
        return answers

    async def _one(
        self, connection: _Connection, path: str, began: float, answers: Answers
    ) -> None:
        status, octets = await connection.ask(path)
        answers.seconds.append(time.perf_counter() - began)
        answers.failed += status != 200
        answers.octets += octets
