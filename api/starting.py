"""What the port answers while a service that the API needs cannot be reached yet."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from api.middleware import common_headers, errors_to_problems, request_id_and_log
from api.problems import ProblemError
from api.schemas import AliveAnswer, HealthAnswer, ReadyAnswer, ServiceHealth


def create_starting_app(
    name: str, version: str, missing: Callable[[], tuple[str, str]]
) -> web.Application:
    """Build an application that is alive, not ready, and says why.

    `missing` tells the service that is waited for, and what is wrong with it.
    """
    began = time.monotonic()

    def waiting_for() -> dict[str, ServiceHealth]:
        service, why = missing()
        return {service: ServiceHealth(status="unhealthy", message=why)}

    async def alive(_: web.Request) -> web.Response:
        return _json(AliveAnswer(status="alive", version=version), 200)

    async def not_ready(_: web.Request) -> web.Response:
        now = datetime.now(UTC)
        body = ReadyAnswer(
            ready=False, status="not_ready", services=waiting_for(), workers=[], timestamp=now
        )
        return _json(body, 503)

    async def unhealthy(_: web.Request) -> web.Response:
        body = HealthAnswer(
            status="unhealthy",
            services=waiting_for(),
            stages=[],
            projections=[],
            app_name=name,
            version=version,
            uptime_seconds=round(time.monotonic() - began, 3),
            timestamp=datetime.now(UTC),
        )
        return _json(body, 503)

    async def starting(_: web.Request) -> web.Response:
        raise ProblemError(
            "starting", f"the server waits: {missing()[1]}", headers={"Retry-After": "2"}
        )

    app = web.Application(middlewares=[request_id_and_log(), errors_to_problems(debug=False)])
    app.on_response_prepare.append(common_headers(()))
    app.router.add_get("/health", alive)
    for path in ("/ready", "/api/system/health/ready"):
        app.router.add_get(path, not_ready)
    app.router.add_get("/api/system/health", unhealthy)
    app.router.add_route("*", "/{tail:.*}", starting)
    return app


def _json(body: msgspec.Struct, status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
