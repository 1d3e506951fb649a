"""RiskModel over llama.cpp's HTTP server: schema constrained, bounded, and validated all the same.

An invalid schema is answered 200 without any constraint and a short token limit cuts JSON off, so
the server is never trusted to have kept to the schema.
"""

import time
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Final, Literal

import aiohttp
import msgspec

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.names import clean_text
from domain.prompt import (
    PROMPT_VERSION,
    Message,
    UnusableReplyError,
    conversation,
    parse_reply,
    question_text,
)
from inference.llama_wire import (
    TOKENS_LIMIT,
    Answer,
    ChatReply,
    CompletionReply,
    Models,
    Props,
    chat_request,
    completion_request,
    decoded,
    short_name,
    text_of,
    turns,
)
from inference.ports import RiskOpinion, RiskQuestion

SERVICE: Final = "risk_model"
Api = Literal["chat", "completion"]

BODY_LIMIT: Final = 256 * 1024
"""Bytes of one HTTP reply; more is dropped unread."""
_RETRY_AFTER_LIMIT: Final = 600.0

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


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a server may take."""

    connect: float = 10.0
    read: float = 120.0
    health: float = 5.0


class LlamaRiskModel:
    """Asks one llama.cpp server, by chat (its own template) or by plain completion."""

    def __init__(
        self,
        url: str,
        *,
        api: Api = "chat",
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._api = api
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeouts = timeouts or Timeouts()
        self._client: aiohttp.ClientSession | None = None
        self._model = ""

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        """Return the model's validated opinion; UnusableReplyError keeps what it said instead."""
        text = question_text(
            question.camera_name,
            question.facts,
            question.rule_score,
            question.floor,
            question.signal_lines,
        )
        messages = conversation(text)
        started = time.perf_counter()
        answer = await self._ask(messages)
        seconds = time.perf_counter() - started
        if not answer.complete:
            message = f"it was cut off after {answer.tokens_out} tokens (limit {TOKENS_LIMIT})"
            raise UnusableReplyError("truncated", message, answer.text)
        reply = parse_reply(answer.text)
        return RiskOpinion(
            score=reply.risk_score,
            summary=reply.summary,
            reasoning=reply.reasoning,
            model=short_name(answer.model) or self._model or await self.check(),
            prompt_version=PROMPT_VERSION,
            prompt_sha256=sha256(msgspec.json.encode(turns(messages))).hexdigest(),
            raw_text=answer.text,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            seconds=round(seconds, 3),
        )

    async def check(self) -> str:
        """Return the model's name once the server has loaded it."""
        await self._get("/health")
        try:
            models = decoded(await self._get("/v1/models"), Models)
            name = models.data[0].id if models.data else ""
        except UnusableReplyError:
            name = decoded(await self._get("/props"), Props).model_path
        self._model = short_name(name) or "unnamed model"
        return self._model

    async def close(self) -> None:
        """Release connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ask(self, messages: tuple[Message, ...]) -> Answer:
        if self._api == "chat":
            body = await self._post("/v1/chat/completions", chat_request(messages))
            return decoded(body, ChatReply).answer()
        body = await self._post("/completion", completion_request(messages))
        return decoded(body, CompletionReply).answer()

    async def _post(self, path: str, request: dict[str, object]) -> bytes:
        return await self._call("POST", path, self._timeouts.read, request)

    async def _get(self, path: str) -> bytes:
        return await self._call("GET", path, self._timeouts.health, None)

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
                self._url + path,
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
                f"the language model at {self._url} did not answer within {limit:g} s;"
                " if it is only slow, raise NEMOTRON_READ_TIMEOUT"
            ) from error
        except aiohttp.ClientError as error:
            raise self._away(str(error) or type(error).__name__) from error

    def _refusal(
        self, path: str, status: int, body: bytes, retry_after: float | None
    ) -> HsiError | None:
        """Return what an HTTP status means, or None when the body is an answer."""
        if status == HTTPStatus.OK:
            return None
        said = clean_text(text_of(body[:2000]))[:300]
        if status in _AWAY:
            return self._away(f"{_AWAY[status]} (HTTP {status} to {path}): {said}", retry_after)
        if status < 400:
            return self._away(f"HTTP {status} to {path} is a redirect; check NEMOTRON_URL")
        where = f"the language model at {self._url}"
        if status < 500 and status not in _BUSY:
            return PermanentError(f"{where} rejects the request (HTTP {status}): {said}")
        return TransientError(f"{where} failed (HTTP {status}): {said}", retry_after=retry_after)

    def _away(self, why: str, retry_after: float | None = None) -> ServiceUnavailableError:
        message = f"the language model at {self._url} does not answer: {why}"
        return ServiceUnavailableError(SERVICE, message, retry_after=retry_after)

    def _session(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that is running then.
        if self._client is None:
            self._client = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._client


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
