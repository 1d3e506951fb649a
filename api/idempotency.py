"""`Idempotency-Key`: the same key with the same request has one effect and one answer.

Commands that are one event (cameras, events) are safe without this, too: the event's id follows
from the key. Here is what holds for every write: the answer is kept for a day and given again.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from aiohttp import web

from api.problems import ProblemError
from domain.errors import TransientError
from streams.requests import Kept, KeptAnswer, SeenRequests

KEY_PATTERN: Final = "^[!-~]{1,255}$"
"""What a key may be: visible ASCII characters."""

NOT_KEPT: Final = web.ResponseKey("not_kept", bool)
"""Marks an answer with a secret in it: it is given once and kept nowhere."""

_KEY = re.compile(KEY_PATTERN)
_KEPT_HEADERS: Final = ("Content-Type", "Location")
_REPLAY_HEADERS: Final = {"Cache-Control": "no-store", "Idempotent-Replay": "true"}
_DONE: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT})
"""Answers of requests that are over. Others may be tried again with the same key."""


def key_of(request: web.Request) -> str | None:
    """Return the request's idempotency key, if it has one; raises ProblemError for a bad one."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise ProblemError(
            "bad_request", "Idempotency-Key takes 1 to 255 visible ASCII characters, once"
        )
    return given[0]


async def once(
    seen: SeenRequests,
    request: web.Request,
    body: bytes,
    handle: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Handle a request unless one with its key was handled already."""
    key = key_of(request)
    if key is None:
        return await handle()
    caller = f"{request.headers.get('X-API-Key', '')} {request.headers.get('Cookie', '')}"
    name = f"{request.method} {request.path} {key} {caller}"
    fingerprint = sha256(request.query_string.encode() + b"\n" + body).hexdigest()
    before = await seen.claim(name, fingerprint)
    if before is not None:
        return _again(before, fingerprint)
    try:
        response = await handle()
        keep = response.status in _DONE and NOT_KEPT not in response
        if isinstance(response, web.Response) and keep:
            await seen.keep(name, fingerprint, _kept(response))
            return response
    except BaseException:
        await _give_up(seen, name)
        raise
    await _give_up(seen, name)
    return response


async def _give_up(seen: SeenRequests, name: str) -> None:
    with suppress(TransientError):  # The claim ends by itself in some minutes.
        await seen.give_up(name)


def _kept(response: web.Response) -> KeptAnswer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    body = response.body if isinstance(response.body, bytes) else b""
    return KeptAnswer(response.status, headers, body)


def _again(before: Kept, fingerprint: str) -> web.Response:
    if before.fingerprint != fingerprint:
        raise ProblemError(
            "idempotency_key_reused",
            "this Idempotency-Key was used for a request with another body; take a new one",
        )
    if before.answer is None:
        raise ProblemError(
            "request_in_progress",
            "the request with this Idempotency-Key is still being worked on: ask again",
            headers={"Retry-After": "1"},
        )
    return web.Response(
        status=before.answer.status,
        body=before.answer.body or None,
        headers={**before.answer.headers, **_REPLAY_HEADERS},
    )
