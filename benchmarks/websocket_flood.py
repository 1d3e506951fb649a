"""Very many WebSocket connections at once: `python -m benchmarks.websocket_flood PORT COUNT`.

Says as JSON how many were served, refused with 503 (and told when to come again), and left without
an answer, and how long another request took at most meanwhile.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.load import Load
from benchmarks.websocket_clients import HEAD_END, handshake

AT_ONCE = 500
"""Handshakes under way together; of a thousand silent connections the server closes the oldest."""
ANSWER_SECONDS = 60.0
ASK_SECONDS = 0.2


@dataclass
class Flood:
    """What became of the connections."""

    port: int
    told: Counter[str] = field(default_factory=Counter)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    """Served clients stay until the end."""

    async def run(self, count: int) -> dict[str, float]:
        """Connect them all, asking for something else meanwhile."""
        began = time.perf_counter()
        places = asyncio.Semaphore(AT_ONCE)
        async with Load("127.0.0.1", self.port, 1) as load:
            slowest = await self._ask(load)
            connecting = asyncio.gather(*(self._connect(places) for _ in range(count)))
            while not connecting.done():
                slowest = max(slowest, await self._ask(load))
                await asyncio.sleep(ASK_SECONDS)
        seconds = time.perf_counter() - began
        for writer in self.writers:
            writer.transport.abort()
        return {
            "flood_connections": count,
            "flood_served": self.told["101"],
            "flood_refused": self.told["503"],
            "flood_refused_with_retry_after": self.told["retry-after"],
            "flood_unanswered": self.told["none"],
            "flood_s": round(seconds, 1),
            "flood_slowest_health_ms": round(slowest, 1),
        }

    async def _connect(self, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(handshake())
                    head = await reader.readuntil(HEAD_END)
            except (OSError, EOFError, TimeoutError):
                self.told["none"] += 1
                return
        self.told[head[9:12].decode()] += 1
        self.told["retry-after"] += b"\r\nRetry-After: " in head
        self.writers.append(writer)

    async def _ask(self, load: Load) -> float:
        """Ask whether the process is alive until it has said so; return the wait (ms)."""
        slowest: list[float] = []
        while not slowest:
            answers = await load.saturate(lambda: "/health", 0.01)
            if answers.failed:
                raise RuntimeError("/health was not answered")
            slowest = answers.seconds
        return 1000 * max(slowest)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Flood(int(sys.argv[1])).run(int(sys.argv[2])))))
