"""One bounded HTTP request to a service, with what went wrong in words."""

import aiohttp

from inference.trust import advised

MOST_BYTES = 1 << 20
"""A longer answer is none: an embedding of 4,096 numbers takes some 90 kB."""


class NoAnswerError(Exception):
    """The service cannot be reached or did not answer in time."""


class TooLongAnswerError(Exception):
    """The service answers more than MOST_BYTES."""


async def answer_of(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own kind, several limits
    data: aiohttp.FormData | None = None,
) -> tuple[int, bytes]:
    """Return the status and the body; raises NoAnswerError or TooLongAnswerError."""
    try:
        async with session.request(
            method, url, data=data, timeout=timeout, allow_redirects=False
        ) as response:
            body = b""
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > MOST_BYTES:
                    raise TooLongAnswerError(f"{url} answers more than {MOST_BYTES} bytes")
            return response.status, body
    except TimeoutError as error:
        raise NoAnswerError(f"{url} did not answer in time (timeout)") from error
    except aiohttp.ClientError as error:
        raise NoAnswerError(advised(f"{url} cannot be reached: {error}")) from error
