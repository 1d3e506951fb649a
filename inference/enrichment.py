"""Adapters of the optional services over HTTP; docs/enrichment.md is the contract.

`GET /health` says who answers; `POST` takes one picture as multipart `file`.
"""

import asyncio
import io
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import aiohttp
import msgspec
import numpy as np

from domain.enrichment import clean_attributes, clean_caption
from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from inference.enrichment_ports import BadAnswerError, Captioned, Described, Embedded
from inference.http_calls import HttpCalls, NoAnswerError, TooLongAnswerError
from inference.ports import ModelIdentity

READ_SECONDS = 30.0
FULL_SCALE = 32_767
_NOT_THE_PICTURE = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})
"""Refusals that say nothing about the picture: wrong address, missing rights, too much at once."""

_Answered = TypeVar("_Answered")
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


class _Health(msgspec.Struct):
    model_loaded: bool
    model: _Name
    version: _Name
    status: str = "unknown"


class _Caption(msgspec.Struct):
    caption: Annotated[str, msgspec.Meta(max_length=20_000)]


class _Embedding(msgspec.Struct):
    embedding: Annotated[list[float], msgspec.Meta(min_length=16, max_length=4096)]


class _Attribute(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=1000)]
    value: Annotated[str, msgspec.Meta(max_length=1000)]
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class _Attributes(msgspec.Struct):
    attributes: Annotated[list[_Attribute], msgspec.Meta(max_length=1000)]


class _HttpService:
    """One service; one connection pool, opened by the first call."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = READ_SECONDS,
        health_timeout: float = 5.0,
        ca_path: Path | None = None,
    ) -> None:
        self._name = name
        self._calls = HttpCalls(
            url,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            health_timeout=health_timeout,
            ca_path=ca_path,
        )
        self._identity: ModelIdentity | None = None

    async def check(self) -> ModelIdentity:
        url = f"{self._calls.url}/health"
        status, body = await self._answer(self._calls.get_health())
        if status != 200:
            raise self._away(f"{url} answered {status}: {_excerpt(body)}")
        health = _decode(body, _Health, url)
        if not health.model_loaded:
            raise self._away(f"{url} says that no model is loaded (status {health.status})")
        self._identity = ModelIdentity(health.model, health.version, "http")
        return self._identity

    async def close(self) -> None:
        await self._calls.close()

    async def _ask(
        self, path: str, jpeg: bytes, kind: type[_Answered], **fields: str
    ) -> tuple[_Answered, ModelIdentity]:
        """Return the answer about one picture, and whose it is."""
        identity = self._identity or await self.check()
        url = f"{self._calls.url}{path}"
        form = aiohttp.FormData(fields)
        form.add_field("file", io.BytesIO(jpeg), filename="crop.jpg", content_type="image/jpeg")
        status, body = await self._answer(self._calls.post(path, form))
        if status != 200:
            raise self._refusal(url, status, body)
        return _decode(body, kind, url), identity

    def _refusal(self, url: str, status: int, body: bytes) -> HsiError:
        said = f"{url} answered {status}: {_excerpt(body)}"
        if 400 <= status < 500 and status not in _NOT_THE_PICTURE:
            return PermanentError(f"the picture was refused, {said}")
        setting = f"{self._name.upper()}_URL"
        return self._away(f"{said}; check {setting} and the service" if status < 500 else said)

    def _away(self, message: str) -> ServiceUnavailableError:
        # What comes back may be another model: ask again who it is.
        self._identity = None
        return ServiceUnavailableError(self._name, message)

    async def _answer(self, call: Awaitable[tuple[int, bytes]]) -> tuple[int, bytes]:
        try:
            return await call
        except NoAnswerError as error:
            raise self._away(str(error)) from error
        except TooLongAnswerError as error:
            raise BadAnswerError(str(error)) from error


class FlorenceCaptioner(_HttpService):
    """`POST /caption` → `{"caption": "…"}`."""

    def __init__(self, url: str, ca_path: Path | None = None, /, **timeouts: float) -> None:
        super().__init__("florence", url, ca_path=ca_path, **timeouts)

    async def caption(self, jpeg: bytes) -> Captioned:
        answer, identity = await self._ask("/caption", jpeg, _Caption)
        text = clean_caption(answer.caption)
        if not text:
            raise BadAnswerError(
                f"{self._calls.url}/caption answered a caption without a visible word"
            )
        return Captioned(text, identity)


class ClipEmbedder(_HttpService):
    """`POST /embed` → `{"embedding": [768 numbers]}`."""

    def __init__(self, url: str, ca_path: Path | None = None, /, **timeouts: float) -> None:
        super().__init__("clip", url, ca_path=ca_path, **timeouts)

    async def embed(self, jpeg: bytes) -> Embedded:
        answer, identity = await self._ask("/embed", jpeg, _Embedding)
        vector = await asyncio.to_thread(quantised, answer.embedding)
        if vector is None:
            raise BadAnswerError(f"{self._calls.url}/embed answered an embedding of length 0")
        return Embedded(vector, identity)


class AttributeReader(_HttpService):
    """`POST /enrich` with `object_type` → `{"attributes": [{name, value, confidence}]}`."""

    def __init__(self, url: str, ca_path: Path | None = None, /, **timeouts: float) -> None:
        super().__init__("enrichment", url, ca_path=ca_path, **timeouts)

    async def describe(self, jpeg: bytes, label: str) -> Described:
        answer, identity = await self._ask("/enrich", jpeg, _Attributes, object_type=label)
        given = [(each.name, each.value, each.confidence) for each in answer.attributes]
        return Described(clean_attributes(given), identity)


def quantised(numbers: list[float]) -> bytes | None:
    """Return an embedding as `Sighting.vector` has it; None for one that points nowhere.

    Whole numbers make every similarity exact, so that who is whom never depends on the order in
    which a processor adds things up.
    """
    values: Any = np.asarray(numbers, dtype=np.float64)
    most = float(np.abs(values).max())
    if not np.isfinite(most) or most == 0:
        return None
    values = values / most  # First, so that squares neither vanish nor overflow.
    unit = values / np.sqrt(np.square(values).sum())
    whole: bytes = np.rint(unit * FULL_SCALE).astype("<i2").tobytes()
    return whole


def _decode(body: bytes, kind: type[_Answered], url: str) -> _Answered:
    """Read an answer strictly: what breaks the contract must not become an empty one."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswerError(
            f"{url} breaks the contract of docs/enrichment.md: {error}; it said {_excerpt(body)}"
        ) from error


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
