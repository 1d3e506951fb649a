"""HTTP to a llama.cpp server: bounded, and every refusal told as what it means for the stage."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.names import clean_text
from domain.prompt import UnusableReplyError
from inference.llama_wire import ErrorReply, text_of
from inference.trust import advised, login_of, session_of, trusted

SERVICE: Final = "risk_model"

BODY_LIMIT: Final = 256 * 1024
"""Bytes of one HTTP reply; more is dropped unread."""
_RETRY_AFTER_LIMIT: Final = 600.0

_NO_ENDPOINT: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_AWAY: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "the API key is refused, give the server's own key",
    HTTPStatus.FORBIDDEN: "the API key is refused, give the server's own key",
    HTTPStatus.NOT_FOUND: "there is no such endpoint, check NEMOTRON_URL",
    HTTPStatus.METHOD_NOT_ALLOWED: "there is no such endpoint, check NEMOTRON_URL",
    HTTPStatus.BAD_GATEWAY: "the server behind it is away",
    HTTPStatus.SERVICE_UNAVAILABLE: "it is not ready",
    HTTPStatus.GATEWAY_TIMEOUT: "the server behind it is away",
}
"""Statuses under which no request can work now: the stage waits, nothing is charged."""
_BUSY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_CONTEXT_EXCEEDED: Final = "exceed_context_size_error"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a server may take."""

    connect: float = 10.0
    read: float = 120.0
    health: float = 5.0


class NoEndpointError(ServiceUnavailableError):
    """The server answers, but has no such endpoint."""


class ContextExceededError(PermanentError):
    """The conversation is longer than the model's context; a shorter one may do."""

    def __init__(self, message: str, window: int | None) -> None:
        super().__init__(message)
        self.window = window
        """Tokens of context the server says it has, where it says so."""


class LlamaHttp:
    """Requests to one server; connections are kept until `close`."""

    def __init__(
        self, url: str, api_key: str | None, timeouts: Timeouts, ca_path: Path | None = None
    ) -> None:
        self.url, self._login = login_of(url)
        self._trusted = trusted(ca_path) if url.startswith("https://") else None
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeouts = timeouts
        self._client: aiohttp.ClientSession | None = None

    async def ask(self, path: str, request: dict[str, object]) -> bytes:
        """POST something the model works on: the read timeout counts."""
        return await self._call("POST", path, self._timeouts.read, request)

    async def look(self, path: str, request: dict[str, object] | None = None) -> bytes:
        """GET or POST something the server knows at once: the health timeout counts."""
        method = "GET" if request is None else "POST"
        return await self._call(method, path, self._timeouts.health, request)

    async def close(self) -> None:
        """Release connections; a second call does nothing."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _call(
        self, method: str, path: str, limit: float, request: dict[str, object] | None
    ) -> bytes:
        connect = self._timeouts.connect
        timeout = aiohttp.ClientTimeout(total=connect + limit, connect=connect, sock_read=limit)
        data = None if request is None else msgspec.json.encode(request)
        headers = {**self._headers, "Content-Type": "application/json"} if data else self._headers
        try:
            async with self._session().request(
                method,
                self.url + path,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _bounded_body(response)
                retry_after = _seconds(response.headers.get("Retry-After", ""))
                if (error := self._refusal(path, response.status, body, retry_after)) is not None:
                    raise error
                return body
        except aiohttp.ConnectionTimeoutError as error:
            raise self._away(f"no connection within {connect:g} s") from error
        except TimeoutError as error:
            raise TransientError(
                f"the language model at {self.url} did not answer within {limit:g} s;"
                " if it is only slow, raise NEMOTRON_READ_TIMEOUT"
            ) from error
        except aiohttp.ClientError as error:
            raise self._away(advised(str(error) or type(error).__name__)) from error

    def _refusal(
        self, path: str, status: int, body: bytes, retry_after: float | None
    ) -> HsiError | None:
        """Return what an HTTP status means, or None when the body is an answer."""
        if status == HTTPStatus.OK:
            return None
        said = clean_text(text_of(body[:2000]))[:300]
        if status in _AWAY:
            why = f"{_AWAY[status]} (HTTP {status} to {path}): {said}"
            return self._away(why, retry_after, missing=status in _NO_ENDPOINT)
        if status < 400:
            return self._away(f"HTTP {status} to {path} is a redirect; check NEMOTRON_URL")
        where = f"the language model at {self.url}"
        if status < 500 and status not in _BUSY:
            return _rejected(f"{where} rejects the request (HTTP {status}): {said}", body)
        return TransientError(f"{where} failed (HTTP {status}): {said}", retry_after=retry_after)

    def _away(
        self, why: str, retry_after: float | None = None, *, missing: bool = False
    ) -> ServiceUnavailableError:
        kind = NoEndpointError if missing else ServiceUnavailableError
        message = f"the language model at {self.url} does not answer: {why}"
        return kind(SERVICE, message, retry_after=retry_after)

    def _session(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that is running then.
        if self._client is None:
            self._client = session_of(self._trusted, self._login)
        return self._client


def _rejected(message: str, body: bytes) -> PermanentError:
    try:
        error = msgspec.json.decode(body, type=ErrorReply).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return PermanentError(message)
    if error.type != _CONTEXT_EXCEEDED:
        return PermanentError(message)
    return ContextExceededError(message, error.n_ctx)


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    parts = bytearray()
    async for chunk in response.content.iter_chunked(16_384):
        parts += chunk
        if len(parts) > BODY_LIMIT:
            message = f"more than {BODY_LIMIT} bytes came back"
            raise UnusableReplyError("too_long", message, text_of(parts[:2000]))
    return bytes(parts)


def _seconds(header: str) -> float | None:
    return min(float(header), _RETRY_AFTER_LIMIT) if header.isdecimal() else None
