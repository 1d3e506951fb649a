"""The /detect service on port 8090: other programs' way to whichever detector is configured.

    POST /detect        one picture     → detections, inference_time_ms, image_width, image_height
    POST /detect/batch  several of them → a list of the above, in their order
    GET  /health        is there a model that answers, which, and on what

A failure is never an empty list: what is wrong with the request or its picture is a 4xx with the
reason, and a model that does not answer is a 503 with Retry-After. Boxes are answered down to
BOX_FLOOR, far below any threshold, since the client of ours keeps them so that thresholds can be
tried again; others ask with `?min_confidence=0.5`.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
from aiohttp import web

from domain.errors import HsiError, PermanentError, TransientError
from inference.detect_requests import (
    Limits,
    RefusedRequestError,
    Upload,
    floor_of,
    read_many,
    read_one,
)
from inference.detect_wire import Answer, answer, healthy, unhealthy
from inference.images import decode
from inference.ports import Detector

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long requests in hand may take once the process is asked to stop."""
RETRY_AFTER_SECONDS = 1
_DECODED_AT_ONCE = 4
"""Pictures of a batch that are in memory decoded; each may take 192 MB."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DetectService:
    """Handlers over one detector."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self._detector = detector
        self._limits = limits
        self._places = asyncio.Semaphore(limits.at_once)
        self._batch = asyncio.Lock()
        self._in_hand = 0

    def application(self) -> web.Application:
        """Return the application with the three routes."""
        app = web.Application(middlewares=[errors_to_json])
        app.router.add_post("/detect", self.detect)
        app.router.add_post("/detect/batch", self.detect_batch)
        app.router.add_get("/health", self.health)
        return app

    async def detect(self, request: web.Request) -> web.Response:
        """Look at one picture."""
        floor = floor_of(request)
        with self._admitted():
            upload = await read_one(request, self._limits)
            async with self._places:
                (found,) = await self._look([upload], floor)
        return _json(found)

    async def detect_batch(self, request: web.Request) -> web.Response:
        """Look at several pictures; one that cannot be read fails the request, by its name."""
        floor = floor_of(request)
        size = max(1, min(self._detector.max_batch, _DECODED_AT_ONCE))
        with self._admitted():
            uploads = await read_many(request, self._limits)
            found: list[Answer] = []
            async with self._batch, self._places:
                for start in range(0, len(uploads), size):
                    found += await self._look(uploads[start : start + size], floor)
        return _json(found)

    async def health(self, _: web.Request) -> web.Response:
        """Ask the model itself."""
        try:
            identity = await self._detector.check()
        except HsiError as error:
            return _json(unhealthy(str(error)), 503)
        return _json(healthy(identity))

    async def _look(self, uploads: list[Upload], floor: float) -> list[Answer]:
        pictures = [await asyncio.to_thread(decode, it.data, it.name) for it in uploads]
        found = await self._detector.detect(pictures)
        return [answer(*pair, floor) for pair in zip(found, pictures, strict=True)]

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request before its body is read; send it away when there are too many."""
        if self._in_hand >= self._limits.waiting:
            raise RefusedRequestError(
                503,
                f"{self._in_hand} requests are in hand already, more are not taken: come back",
                retry_after=RETRY_AFTER_SECONDS,
            )
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1


async def run_server(
    detector: Detector,
    limits: Limits,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT: then take no more, finish what is in hand, close.

    `ready` gets the base URL once the port answers. Raises HsiError when it cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = DetectService(detector, limits).application()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise HsiError(
                f"the detector cannot listen at {host} port {port}: {error.strerror}; choose "
                "another with --host and --port"
            ) from error
        ready(_url(host, runner.addresses[0][1]))
        await stop.wait()
        logger.info("the detector service takes no more and finishes what it has in hand")
    finally:
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches the service."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@web.middleware
async def errors_to_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure as `{"detail": reason}` with the status that says whose fault it is."""
    try:
        return await handler(request)
    except RefusedRequestError as error:
        return _failure(error.status, str(error), error.retry_after)
    except PermanentError as error:
        return _failure(422, str(error))
    except TransientError as error:
        logger.warning("a request failed: %s", error)
        wait = max(RETRY_AFTER_SECONDS, round(error.retry_after or 0))
        return _failure(503, str(error), wait)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        error.content_type = "application/json"
        error.body = msgspec.json.encode({"detail": error.reason})
        raise


def _failure(status: int, detail: str, retry_after: int | None = None) -> web.Response:
    response = _json({"detail": detail}, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _json(body: msgspec.Struct | list[Answer] | dict[str, str], status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
