"""A model hub on a free port: it redirects to where the file lies, as real ones do."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

CONTENT = random.Random(7).randbytes(300_000)
PATH = "/someone/tiny/resolve/abc123/weights/tiny.gguf"


class Hub:
    """Serves one file as a hub does; can cut it off, stall, lie, fail, or know no ranges."""

    def __init__(self, content: bytes = CONTENT, path: str = PATH) -> None:
        self.content = content
        self.path = path
        self.cut_after: int | None = None
        self.stall_after: int | None = None
        self.ranges = True
        self.shifted = 0
        """Bytes by which an answer to a range begins elsewhere."""
        self.status = 302
        self.moved_to = "/cdn"
        self.requests: list[str | None] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get(self.path, self._redirect)
        app.router.add_get("/cdn", self._file)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(status=self.status, headers={"Location": self.moved_to})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("Range")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        begin = start + self.shifted if start else 0
        body = self.content[begin:]
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            end, whole = len(self.content) - 1, len(self.content)
            response.headers["Content-Range"] = f"bytes {begin}-{end}/{whole}"
        response.content_length = len(body)
        await response.prepare(request)
        if self.stall_after is not None:
            await response.write(body[: self.stall_after])
            await asyncio.sleep(60)
        if self.cut_after is not None:
            await response.write(body[: self.cut_after])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response
