"""The peer of `api`: aiohttp and nothing else around the query that GET /api/events/{id} makes."""

import asyncio
import sys

from aiohttp import web

from api.serve import POOL_SIZE
from projections.database import open_pool
from projections.timeline_queries import EVENT


async def serve(database_url: str, port: int) -> None:
    """Serve until killed."""
    pool = await open_pool(database_url, name="bare", max_size=POOL_SIZE)

    async def get_event(request: web.Request) -> web.Response:
        async with pool.connection() as connection:
            await connection.set_autocommit(True)
            cursor = await connection.execute(
                EVENT, {"id": request.match_info["id"]}, prepare=True
            )
            row = await cursor.fetchone()
        if row is None:
            return web.Response(status=404)
        return web.Response(body=row[0].encode(), content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/events/{id}", get_event)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
