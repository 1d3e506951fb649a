"""Detector behind HTTP: `POST /detect` with the picture as it is, `GET /health`.

The service keeps boxes above a threshold of its own and only the classes it cares for, so there
may be fewer boxes above BOX_FLOOR than an adapter with the model in its hands would give.
"""

import asyncio
import io
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from domain.errors import HsiError, ServiceUnavailableError, TransientError
from domain.events import Box
from inference.boxes import MOST_BOXES
from inference.detect_wire import Answer, Health
from inference.http_calls import HttpCalls, NoAnswerError, TooLongAnswerError
from inference.images import upload
from inference.ports import BOX_FLOOR, Detected, ModelIdentity, ModelRefusedError, Picture

_NOT_THE_PICTURE = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429})
"""Refusals that say nothing about the picture: wrong address, missing rights, too much at once."""

_Answered = TypeVar("_Answered")


class HttpDetector:
    """Detector over one service; one connection pool, opened by the first call."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        health_timeout: float = 5.0,
        ca_path: Path | None = None,
    ) -> None:
        self._calls = HttpCalls(
            url,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            health_timeout=health_timeout,
            ca_path=ca_path,
        )
        self._identity: ModelIdentity | None = None

    @property
    def max_batch(self) -> int:
        return 1

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        identity = self._identity or await self.check()
        return [await self._detect(picture, identity) for picture in pictures]

    async def check(self) -> ModelIdentity:
        url = f"{self._calls.url}/health"
        status, body = await self._answer(self._calls.get_health())
        if status != 200:
            raise self._away(f"{url} answered {status}: {_excerpt(body)}")
        health = _decode(body, Health, url)
        if not health.model_loaded:
            raise self._away(f"{url} says that no model is loaded (status {health.status})")
        name, version = health.model or "remote", health.version or "unreported"
        self._identity = ModelIdentity(name, version, "http", bool(health.fallback))
        return self._identity

    async def close(self) -> None:
        await self._calls.close()

    async def _detect(self, picture: Picture, identity: ModelIdentity) -> Detected:
        url = f"{self._calls.url}/detect"
        content, media_type = await asyncio.to_thread(upload, picture)
        # A file name may hold what no header may carry; nobody interprets it there.
        name = "".join(c if c.isascii() and c.isprintable() else "?" for c in picture.name)
        form = aiohttp.FormData()
        file = io.BytesIO(content)
        form.add_field("file", file, filename=name, content_type=media_type)
        status, body = await self._answer(self._calls.post("/detect", form))
        if status != 200:
            raise self._refusal(picture, status, body)
        answer = _decode(body, Answer, url)
        return Detected(_boxes(answer, picture), identity, round(answer.inference_time_ms, 2))

    def _refusal(self, picture: Picture, status: int, body: bytes) -> HsiError:
        said = f"{self._calls.url}/detect answered {status}: {_excerpt(body)}"
        if 400 <= status < 500 and status not in _NOT_THE_PICTURE:
            return ModelRefusedError(f"{picture.name} was refused, {said}")
        return self._away(f"{said}; check RTDETR_URL and the service" if status < 500 else said)

    def _away(self, message: str) -> ServiceUnavailableError:
        # What comes back may be another model: ask again who it is.
        self._identity = None
        return ServiceUnavailableError("detector", message)

    async def _answer(self, call: Awaitable[tuple[int, bytes]]) -> tuple[int, bytes]:
        try:
            return await call
        except NoAnswerError as error:
            raise self._away(str(error)) from error
        except TooLongAnswerError as error:
            raise TransientError(str(error)) from error


def _decode(body: bytes, kind: type[_Answered], url: str) -> _Answered:
    """Read an answer strictly: what breaks the contract must not become an empty list."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TransientError(
            f"{url} breaks the /detect contract: {error}; it said {_excerpt(body)}"
        ) from error


def _boxes(answer: Answer, picture: Picture) -> tuple[Box, ...]:
    """Scale the boxes to the picture as we know it, and clip them to it."""
    across = picture.width / answer.image_width
    down = picture.height / answer.image_height
    boxes = []
    for seen in answer.detections:
        left, right = _clip(seen.bbox.x * across, seen.bbox.width * across, picture.width)
        top, bottom = _clip(seen.bbox.y * down, seen.bbox.height * down, picture.height)
        if seen.confidence > BOX_FLOOR and right > left and bottom > top:
            boxes.append(
                Box(
                    label=seen.label.lower(),
                    score=seen.confidence,
                    x=left,
                    y=top,
                    width=round(right - left, 2),
                    height=round(bottom - top, 2),
                )
            )
    boxes.sort(key=lambda box: -box.score)
    return tuple(boxes[:MOST_BOXES])


def _clip(start: float, length: float, limit: int) -> tuple[float, float]:
    return (
        round(min(max(start, 0.0), limit), 2),
        round(min(max(start + length, 0.0), limit), 2),
    )


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
