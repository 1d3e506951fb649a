"""Requests of the /detect server: pictures out of a multipart form or JSON, within limits.

Every byte is counted while it arrives, whatever the request says of its own length, and nothing
is decoded here.
"""

import asyncio
import base64
import binascii
from dataclasses import dataclass
from math import isfinite

import msgspec
from aiohttp import BodyPartReader, ClientPayloadError, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from domain.errors import HsiError
from inference.detect_wire import ManyEncoded, OneEncoded
from inference.pictures import MAX_PICTURE_BYTES
from inference.ports import BOX_FLOOR

FIELDS = frozenset({"file", "files"})
_CHUNK = 65_536
_FORM_BYTES = 65_536
"""Room for boundaries, headers and base64's brackets around the pictures themselves."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on."""

    picture_bytes: int = MAX_PICTURE_BYTES
    batch_pictures: int = 16
    batch_bytes: int = 2 * MAX_PICTURE_BYTES
    at_once: int = 4
    """Pictures that are decoded and looked at at the same time."""
    waiting: int = 32
    """Requests in hand, those that wait for a place among them; more are sent away."""
    body_seconds: float = 30.0
    """Time within which a request's pictures must arrive."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One picture as it was sent."""

    name: str
    data: bytes


class RefusedRequestError(HsiError):
    """The request itself is refused, with this HTTP status."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


async def read_one(request: web.Request, limits: Limits) -> Upload:
    """Return the picture of a `/detect` request; raises RefusedRequestError."""
    uploads = await _read(request, limits, 1, limits.picture_bytes)
    return uploads[0]


async def read_many(request: web.Request, limits: Limits) -> list[Upload]:
    """Return the pictures of a `/detect/batch` request; raises RefusedRequestError."""
    return await _read(request, limits, limits.batch_pictures, limits.batch_bytes)


def floor_of(request: web.Request) -> float:
    """Return the least score asked for: `?min_confidence=`, else everything that is kept."""
    text = request.query.get("min_confidence")
    if text is None:
        return BOX_FLOOR
    try:
        floor = float(text)
    except ValueError:
        floor = float("nan")
    if not isfinite(floor) or not 0 <= floor <= 1:
        raise RefusedRequestError(400, f"min_confidence={text[:40]!r}: write a number from 0 to 1")
    return floor


async def _read(request: web.Request, limits: Limits, most: int, most_bytes: int) -> list[Upload]:
    kind = request.content_type
    try:
        async with asyncio.timeout(limits.body_seconds):
            if kind == "multipart/form-data":
                uploads = await _Form(most, most_bytes, limits.picture_bytes).read(request)
            elif kind == "application/json":
                uploads = _decoded(await _body(request, most_bytes), most, most_bytes)
            else:
                raise RefusedRequestError(
                    415, f"{kind} is not taken: send multipart/form-data or application/json"
                )
    except TimeoutError as error:
        raise RefusedRequestError(
            408, f"the pictures did not arrive within {limits.body_seconds:g} s"
        ) from error
    except (web.RequestPayloadError, ClientPayloadError, HttpProcessingError) as error:
        # Broken off, or not packed as its headers say; a part whose head has no end.
        raise RefusedRequestError(400, f"the body cannot be read: {str(error)[:200]}") from error
    if not uploads:
        raise RefusedRequestError(400, "there is no picture: send it as the form's field `file`")
    for upload in uploads:
        _check_size(upload, limits.picture_bytes)
    return uploads


class _Form:
    """Collects the pictures of one multipart form."""

    def __init__(self, most: int, most_bytes: int, picture_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._picture_bytes = picture_bytes
        self._bytes = 0
        self._uploads: list[Upload] = []

    async def read(self, request: web.Request) -> list[Upload]:
        try:
            reader = MultipartReader(request.headers, request.content)
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader):
                    raise RefusedRequestError(400, "a form within the form is not taken")
                await self._take(part)
        except (ValueError, AssertionError, LookupError, RuntimeError) as error:
            # What aiohttp raises for a form without boundary, headers or end.
            raise RefusedRequestError(400, f"the multipart form is broken: {error}") from error
        return self._uploads

    async def _take(self, part: BodyPartReader) -> None:
        wanted = part.name in FIELDS
        if wanted and len(self._uploads) == self._most:
            raise _too_many(self._most)
        data = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            self._bytes += len(chunk)
            if self._bytes > self._most_bytes:
                raise _too_large("the form", self._most_bytes)
            if wanted:
                data += chunk
                if len(data) > self._picture_bytes:
                    raise _too_large(f"picture {len(self._uploads) + 1}", self._picture_bytes)
        if wanted:
            name = part.filename or f"picture {len(self._uploads) + 1}"
            self._uploads.append(Upload(_harmless(name), bytes(data)))


async def _body(request: web.Request, most_bytes: int) -> bytes:
    most = most_bytes * 4 // 3 + _FORM_BYTES
    body = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            raise _too_large("what the JSON body holds", most_bytes)
    return bytes(body)


def _decoded(body: bytes, most: int, most_bytes: int) -> list[Upload]:
    try:
        if most == 1:
            texts = [msgspec.json.decode(body, type=OneEncoded).image_base64]
        else:
            texts = msgspec.json.decode(body, type=ManyEncoded).images_base64
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedRequestError(400, f"the JSON body is not as it should be: {error}") from error
    if len(texts) > most:
        raise _too_many(most)
    uploads = []
    for number, text in enumerate(texts, 1):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RefusedRequestError(400, f"picture {number} is no base64: {error}") from error
        uploads.append(Upload(f"picture {number}", data))
    if sum(len(upload.data) for upload in uploads) > most_bytes:
        raise _too_large("what the JSON body holds", most_bytes)
    return uploads


def _check_size(upload: Upload, most: int) -> None:
    if len(upload.data) > most:
        raise _too_large(upload.name, most)


def _too_large(what: str, most: int) -> RefusedRequestError:
    return RefusedRequestError(
        413, f"{what} is above the limit of {most} bytes: send it smaller, or in parts"
    )


def _too_many(most: int) -> RefusedRequestError:
    where = "use /detect/batch for several" if most == 1 else "send the others in another request"
    return RefusedRequestError(413, f"at most {most} in one request: {where}")


def _harmless(name: str) -> str:
    """Return a file name that may stand in a message, whatever the client put into it."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]
