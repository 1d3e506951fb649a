"""Around every request: id, access log, errors to problem+json, CORS, safe headers."""

import logging
import math
import re
import time
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from secrets import token_hex
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDict

from api.problems import ProblemError, problem_response
from domain.errors import ServiceUnavailableError, TransientError

logger = logging.getLogger(__name__)
access = logging.getLogger("api.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Observe = Callable[[web.Request, int, float], None]

REQUEST_ID = web.RequestKey("request_id", str)

RETRY_SECONDS = 5
"""What Retry-After says where the error itself does not know."""

SLOW_SECONDS = 1.0
"""From here on a read that worked is worth a line of the log."""

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SAFE_HEADERS = CIMultiDict(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-site",
        "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    }
)
SERVER = "hsi"
"""Whose versions these are is nobody's business."""

STRICT = "max-age=15552000"
"""Half a year; it counts for all ports of this host, so only where the certificate is given."""

_HTTP_CODES = {404: "no_such_route", 405: "method_not_allowed", 413: "body_too_large"}


def request_id_and_log(observe: Observe | None = None) -> Middleware:
    """Give every request an id (its own, if sane) and a line in the access log.

    `observe` is told every answer with the seconds it took.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id")
        request[REQUEST_ID] = given if given and _SANE_ID.fullmatch(given) else token_hex(8)
        began = time.perf_counter()
        response = await handler(request)
        seconds = time.perf_counter() - began
        if observe is not None:
            observe(request, response.status, seconds)
        level = _access_level(request, response, seconds)
        if access.isEnabledFor(level):
            access.log(
                level,
                "%s %s %d in %.1f ms",
                request.method,
                request.rel_url.raw_path,
                response.status,
                seconds * 1000,
                extra={"action": "request", "request_id": request[REQUEST_ID]},
            )
        return response

    return middleware


def _access_level(request: web.Request, response: web.StreamResponse, seconds: float) -> int:
    """Return how much a request deserves a line: a quick read that worked only with DEBUG.

    At a thousand reads a second the lines would push everything else out of the log files, and
    writing them would cost as much as the answers.
    """
    plain = request.method in _READS and response.status < HTTPStatus.BAD_REQUEST
    return logging.DEBUG if plain and seconds < SLOW_SECONDS else logging.INFO


def errors_to_problems(*, debug: bool) -> Middleware:
    """Turn every error below into problem+json; only DEBUG shows a stack."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID]
        try:
            return await handler(request)
        except ProblemError as problem:
            return problem_response(problem, request_id=request_id)
        except web.HTTPException as error:
            return _http_problem(request, error, request_id)
        except TransientError as error:
            logger.warning("%s %s: %s", request.method, request.path, error)
            return problem_response(_unavailable(error), request_id=request_id)
        except Exception:
            # The edge of the server: whatever a handler did wrong, its client gets an answer and
            # the log the stack.
            logger.exception("%s %s failed (%s)", request.method, request.path, request_id)
            detail = f"the log has the details under request id {request_id}"
            trace = traceback.format_exc() if debug else ""
            return problem_response(
                ProblemError("internal_error", detail), request_id=request_id, trace=trace
            )

    return middleware


def _http_problem(
    request: web.Request, error: web.HTTPException, request_id: str
) -> web.StreamResponse:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    code = _HTTP_CODES.get(error.status, "http_error")
    headers = {}
    detail = error.text or error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.path} has {headers['Allow']}, not {request.method}"
    elif error.status == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.path[:200]}"
    problem = ProblemError(code, detail, headers=headers)
    return problem_response(problem, request_id=request_id, status=error.status)


def _unavailable(error: TransientError) -> ProblemError:
    seconds = RETRY_SECONDS if error.retry_after is None else math.ceil(error.retry_after)
    headers = {"Retry-After": str(max(1, seconds))}
    if isinstance(error, ServiceUnavailableError) and error.service in ("database", "redis"):
        return ProblemError(f"{error.service}_unavailable", str(error), headers=headers)
    return ProblemError("service_unavailable", str(error), headers=headers)


def cross_origin(origins: tuple[str, ...]) -> Middleware:
    """Answer preflights by CORS_ORIGINS and keep other sites from changing or following things."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is None or _same_origin(request, origin):
            return await handler(request)
        allowed = _allows(origins, origin)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight(origin, allowed=allowed)
        # A browser sends simple requests and WebSockets without asking first.
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        if not allowed and (changes or _is_websocket(request)):
            raise _origin_problem(origin)
        return await handler(request)

    return middleware


def _allows(origins: tuple[str, ...], origin: str) -> bool:
    return origin in origins or "*" in origins


def _same_origin(request: web.Request, origin: str) -> bool:
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:  # No browser sends such a thing.
        return False


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _origin_problem(origin: str) -> ProblemError:
    detail = f"origin {origin[:200]!r} is not in CORS_ORIGINS"
    return ProblemError("origin_not_allowed", detail)


def _preflight(origin: str, *, allowed: bool) -> web.Response:
    if not allowed:
        raise _origin_problem(origin)
    return web.Response(
        status=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": "Content-Type, Idempotency-Key, X-API-Key, "
            "X-Request-Id",
            "Access-Control-Max-Age": "600",
        },
    )


def common_headers(
    origins: tuple[str, ...], *, strict: bool = False
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal that adds headers to every answer, WebSocket upgrades included.

    `strict` tells browsers that came by TLS to come by TLS only from now on.
    """

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.setdefault("X-Request-Id", request.get(REQUEST_ID, ""))
        response.headers.merge(SAFE_HEADERS)  # Adds those that the answer does not have.
        response.headers["Server"] = SERVER
        if strict and request.secure:
            response.headers.setdefault("Strict-Transport-Security", STRICT)
        origin = request.headers.get("Origin")
        if origins:
            response.headers.add("Vary", "Origin")
        if origin is not None and _allows(origins, origin):
            # With "*" what was sent need not be an origin at all.
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
            response.headers["Access-Control-Expose-Headers"] = (
                "Content-Disposition, Content-Range, ETag, Idempotent-Replay, Location, "
                "Retry-After, X-Request-Id"
            )

    return on_prepare
