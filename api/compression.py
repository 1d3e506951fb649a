"""JSON answers of some length leave gzipped for clients that take that."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FROM_BYTES: Final = 1024
"""A shorter answer fits into one packet anyway."""

_TYPES: Final = frozenset({"application/json", "application/problem+json"})


def gzipped() -> Middleware:
    """Gzip JSON of at least FROM_BYTES."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        headers = response.headers
        if isinstance(response, web.Response) and headers.get(hdrs.CONTENT_TYPE) in _TYPES:
            headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
            body = response.body
            if isinstance(body, bytes) and len(body) >= FROM_BYTES and takes_gzip(request):
                # aiohttp hands long bodies to a thread.
                response.enable_compression(web.ContentCoding.gzip)
        return response

    return middleware


def takes_gzip(request: web.Request) -> bool:
    """Say whether the client takes gzip; a weight of zero means that it does not."""
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
