"""GET /api/system/diagnostics: what a report of a problem needs in one archive, no secrets."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from api.health import check_health
from api.ledger import ledger_answer
from api.logs import log_answer
from api.routing import Routes
from api.service_control import services_answer
from api.services import SERVICES, ApiServices
from api.system_feed import gpu_answer
from domain.errors import TransientError
from projections.log_table import LogFilter
from projections.rows import DeadLetterFilter
from runtime.bundle import LOG_LINES, Part, bundle, effective, log_lines, versions

routes = Routes("system")

_README: Final = """\
Diagnostics of {product}, made {at} by the API.

health.json        how everything is (GET /api/system/health)
services.json      every service: state, restarts, failures
gpu.json           the newest readings of every GPU; source "none": there is none
versions.json      product, Python, operating system, packages
config.json        every setting in effect and where it came from
log.jsonl          the last {lines} log records of all processes, the newest last
ledger.json        how many files are in which state
projections.json   how far the read models are behind the log
dead-letters.json  parked entries by stage and cause

Secrets are masked. Names of cameras and of files are in it: look before you pass it on.
"""


@routes.get("/api/system/diagnostics", "application/gzip", role="admin")
async def diagnostics(request: web.Request) -> web.Response:
    """Answer one archive: health, services, GPU, versions, settings, last log records, ledger,
    read models, dead letters; secrets are masked.

    What cannot be asked at the moment says why in its place.
    """
    parts = await collected(request.app[SERVICES])
    secrets = request.app[SERVICES].live.own.secrets
    packed = await asyncio.to_thread(bundle, parts, secrets)
    name = f"hsi-diagnostics-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    return web.Response(
        body=packed,
        content_type="application/gzip",
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )


async def collected(services: ApiServices) -> dict[str, Part]:
    """Return every part by its file's name."""
    settings = services.live.current
    health = await check_health(services)
    product = f"{settings.app_name} {settings.app_version}"
    at = health.timestamp.isoformat(timespec="seconds")
    fps = services.rates.of("detect").handled_per_second
    lags = {"projections": msgspec.to_builtins(health.projections)}
    return {
        "README.txt": _README.format(product=product, at=at, lines=LOG_LINES),
        "health.json": health,
        "services.json": services_answer(services, health),
        "gpu.json": gpu_answer(services.gpu, fps),
        "versions.json": versions(settings),
        "config.json": effective(settings),
        "log.jsonl": await _logs(services),
        "ledger.json": await _or_why(lambda: _ledger(services)),
        "projections.json": lags,
        "dead-letters.json": await _or_why(lambda: _dead_letters(services)),
    }


async def _or_why(ask: Callable[[], Awaitable[Part]]) -> Part:
    try:
        return await ask()
    except TransientError as error:
        return {"unavailable": str(error)}


async def _ledger(services: ApiServices) -> Part:
    rows = await services.queries.ledger(camera_id=None)
    return ledger_answer(rows, datetime.now(UTC))


async def _dead_letters(services: ApiServices) -> Part:
    groups = await services.queries.dead_letter_groups(DeadLetterFilter())
    return {"groups": msgspec.to_builtins(groups)}


async def _logs(services: ApiServices) -> Part:
    """Return the last records of all processes; of this machine's file where there is no table."""
    try:
        page = await services.queries.logs(LogFilter(), limit=LOG_LINES, after=None)
    except TransientError as error:
        why = str(error)
    else:
        if page.items:
            return [log_answer(row) for row in reversed(page.items)]
        why = "the table of log records is empty (LOG_DB_ENABLED?)"
    path = services.live.current.log_file_path
    try:
        return await asyncio.to_thread(log_lines, path)
    except OSError as error:
        return f"no log records: {why}; LOG_FILE_PATH={path} cannot be read: {error.strerror}\n"
