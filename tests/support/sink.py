"""A receiver of notifications on a free port: takes, refuses, stumbles, redirects, never ends."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Sink:
    """What came, in order; `answer` decides what is said to it."""

    listener: socket.socket = field(default_factory=lambda: bound())
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Idempotency keys and bodies, in the order of their arrival."""
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; then 204."""
    answer: Answerer | None = None
    """Takes the place of the statuses."""

    @property
    def url(self) -> str:
        host, port = self.listener.getsockname()
        return f"http://{host}:{port}/hook/verySecretPart"

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.came]

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.came.append((request.headers["Idempotency-Key"], json.loads(await request.read())))
        self.headers.append(dict(request.headers))
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(status=self.answers.pop(0) if self.answers else 204)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Sink"]:
        """Listen; before, connections to its port are refused."""
        app = web.Application()
        app.router.add_post("/hook/{secret}", self._post)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.SockSite(runner, self.listener).start()
        try:
            yield self
        finally:
            await runner.cleanup()


def bound(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket that has a port and does not listen yet."""
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
