"""A TCP door in front of a server's Unix socket, that can be broken in three ways."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Proxy:
    """Passes bytes between TCP clients and one Unix socket until told otherwise."""

    socket: Path
    port: int = 0
    _server: asyncio.Server | None = None
    _pairs: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = field(default_factory=dict)
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _answers_lost: bool = False

    async def open(self) -> None:
        """Listen on a free loopback port."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End every connection and stop listening."""
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.cut()
        if self._pairs:
            await asyncio.wait(self._pairs)

    # --- breaking ---------------------------------------------------------------------------

    def cut(self) -> None:
        """Break every connection at once."""
        for writers in self._pairs.values():
            for writer in writers:
                writer.transport.abort()

    async def lose_answers(self, seconds: float) -> None:
        """Let requests through and their answers get lost, then break every connection."""
        self._answers_lost = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self._answers_lost = False
        self.cut()

    async def stall(self, seconds: float) -> None:
        """Pass nothing on for a while; nothing is lost."""
        self._flowing.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flowing.set()

    # --- passing on -------------------------------------------------------------------------

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs[task] = [writer]
        try:
            there, back = await asyncio.open_unix_connection(str(self.socket))
            self._pairs[task].append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, back, is_answer=False))
                both.create_task(self._pass(there, writer, is_answer=True))
        except* OSError:
            pass  # The server is not there, or the connection broke: both sides end.
        finally:
            for each in self._pairs.pop(task):
                each.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while data := await source.read(65_536):
            await self._flowing.wait()
            if is_answer and self._answers_lost:
                continue
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError("one side has closed")
