"""`hsi serve`: a model of this machine as a service for other programs."""

import asyncio
import json
import logging
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from domain.errors import ServiceUnavailableError
from inference.detect_requests import Limits
from inference.detect_server import run_server
from inference.detectors import DetectorOptions, open_detector
from inference.ports import ModelIdentity
from runtime.logs import configure_logs
from runtime.masking import mask_urls
from runtime.settings import Settings, load_settings

logger = logging.getLogger(__name__)

app = typer.Typer(add_completion=False)

EMBEDDED = "embedded"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@app.callback()
def _serve() -> None:
    """Keep `hsi serve` a group: models are served by their names."""


@app.command()
def detector(
    host: Annotated[
        str,
        typer.Option(help="Address to bind; 0.0.0.0 for other machines: there is no login."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: a free one.")] = 8090,
    source: Annotated[
        str | None,
        typer.Option(
            "--detector", help="embedded, or a URL as in RTDETR_URL, instead of RTDETR_URL."
        ),
    ] = None,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="Requests looked at at the same time.")
    ] = 4,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write URL and process id there as JSON once the port answers."),
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Serve the configured detector as POST /detect, /detect/batch and GET /health.

    Behind it is what RTDETR_URL names: Triton (grpc://), another /detect service (http://), or
    the embedded detector where it is unset or names this very service. SIGTERM or Ctrl-C: takes
    no more, finishes what is in hand. Ends with 1 when there is no embedded model or no port.

    Examples: `hsi serve detector` · `hsi serve detector --host 0.0.0.0 --port 8090` ·
    `hsi serve detector --detector grpc://triton:8001`
    """
    settings = load_settings(env_file)
    configure_logs(settings, "serve detector")
    url = _source(settings.rtdetr_url, source, host, port)
    limits = Limits(at_once=at_once)
    asyncio.run(_run(settings, url, limits, (host, port), ready_file))


def _source(configured: str | None, wished: str | None, host: str, port: int) -> str | None:
    """Return the URL of the detector behind the service; None is the embedded one."""
    if wished is not None:
        return None if wished == EMBEDDED else wished
    if configured is None:
        return None
    parts = urlsplit(configured)
    itself = parts.scheme in ("http", "https") and (parts.port or 80) == port
    if itself and parts.hostname in LOCAL_NAMES | {host, socket.gethostname()}:
        logger.info("RTDETR_URL names this service itself: it serves the embedded detector")
        return None
    return configured


async def _run(
    settings: Settings,
    url: str | None,
    limits: Limits,
    address: tuple[str, int],
    ready_file: Path | None,
) -> None:
    async with AsyncExitStack() as stack:
        found = open_detector(url, options(settings))
        stack.push_async_callback(found.close)
        try:
            logger.info("it serves %s", _told(await found.check()))
        except ServiceUnavailableError as error:
            if url is None:
                raise
            logger.warning("%s answers 503 until its detector does: %s", mask_urls(url), error)
        await run_server(
            found,
            limits,
            host=address[0],
            port=address[1],
            ready=lambda base: _tell_ready(base, ready_file),
        )


def options(settings: Settings) -> DetectorOptions:
    """Return how detectors are opened outside the agents."""
    return DetectorOptions(
        models_dir=settings.models_dir,
        allow_fallback=not settings.production,
        connect_timeout=settings.ai_connect_timeout,
        read_timeout=settings.rtdetr_read_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.ai_ca_path,
    )


def _told(identity: ModelIdentity) -> str:
    note = " (the offline fall-back: it misses more than RT-DETRv2)" if identity.fallback else ""
    return f"{identity.model} {identity.version} by {identity.engine}{note}"


def _tell_ready(url: str, file: Path | None) -> None:
    logger.info("the detector answers at %s", url, extra={"action": "ready"})
    if file is None:
        return
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    draft.replace(file)
