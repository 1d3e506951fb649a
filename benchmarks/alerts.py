"""File closed → message at a webhook's receiver, for fast-path pictures; detector faked.

The installation is that of `latency` with the role `notify` in its pipeline, as `hsi up`
runs it where DEFAULT_WEBHOOK_URL is set. The receiver is on this machine and answers at once. A
message says when its picture was taken, which is the file's modification time here (the kernel
tells that up to 4 ms too early, so the delays are that much too long). The same events are
heard on /ws/events, so the ratio says what a message takes beside a push.
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from aiohttp import web

from benchmarks.latency import CAMERAS, RATE, drop_and_listen, house
from benchmarks.roles import free_port
from benchmarks.support import servers

LAST_MESSAGES_SECONDS = 30


def run(*, full: bool) -> dict[str, float]:
    """Return milliseconds from the file's close to the receiver, and to the push beside it."""
    seconds = 45 if full else 20
    with servers(postgres=True) as embedded:
        folder = Path(tempfile.mkdtemp(prefix="hsi-alerts-", dir="/tmp"))
        try:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            environ = {"REDIS_URL": embedded.redis_url, "DATABASE_URL": embedded.database_url}
            told, pushed = asyncio.run(_measure(folder, environ, int(seconds * RATE)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    webhook, push = np.array(told) * 1000, np.array(pushed) * 1000
    return {
        "file_to_webhook_p50_ms": round(float(np.percentile(webhook, 50)), 1),
        "file_to_webhook_p95_ms": round(float(np.percentile(webhook, 95)), 1),
        "file_to_push_p95_ms": round(float(np.percentile(push, 95)), 1),
        "ratio_push_p95": round(float(np.percentile(webhook, 95) / np.percentile(push, 95)), 3),
        "messages": len(told),
        "files_per_s": RATE,
    }


async def _measure(
    folder: Path, environ: dict[str, str], count: int
) -> tuple[list[float], list[float]]:
    delays: dict[str, float] = {}
    async with _receiver(delays) as url:
        own = {"DEFAULT_WEBHOOK_URL": url, "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
        async with house(folder, environ | own) as home:
            pushed = await drop_and_listen(home, count)
            async with asyncio.timeout(LAST_MESSAGES_SECONDS):
                while len(delays) < count + CAMERAS:
                    await asyncio.sleep(0.05)
    # As with the pushes: the first picture of each camera also registers it.
    return list(delays.values())[CAMERAS:], pushed


@asynccontextmanager
async def _receiver(delays: dict[str, float]) -> AsyncIterator[str]:
    """Take messages; keep how long after its picture each came for the first time."""

    async def take(request: web.Request) -> web.Response:
        now = time.time()
        message = json.loads(await request.read())
        taken = datetime.fromisoformat(message["occurred_at"]).timestamp()
        delays.setdefault(message["id"], now - taken)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/alerts"
    finally:
        await runner.cleanup()
