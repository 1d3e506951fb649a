"""Bounded HTTP requests to a service, with what went wrong in words."""

from pathlib import Path

import aiohttp

from inference.trust import advised, login_of, session_of, trusted

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


class HttpCalls:
    """One service's address, login, authority and limits; a pool that the first call opens."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        read_timeout: float,
        health_timeout: float,
        ca_path: Path | None,
    ) -> None:
        self.url, self._login = login_of(url)
        self._trusted = trusted(ca_path) if url.startswith("https://") else None
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout + read_timeout,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )
        self._health_timeout = aiohttp.ClientTimeout(total=health_timeout)
        self._session: aiohttp.ClientSession | None = None

    async def get_health(self) -> tuple[int, bytes]:
        """Ask for `/health`; raises as `answer_of`."""
        return await self._answer("GET", "/health", self._health_timeout)

    async def post(self, path: str, form: aiohttp.FormData) -> tuple[int, bytes]:
        """Send a form; raises as `answer_of`."""
        return await self._answer("POST", path, self._timeout, form)

    async def close(self) -> None:
        """Close the pool; the next call opens another."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answer(
        self,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own kind, several limits
        form: aiohttp.FormData | None = None,
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = session_of(self._trusted, self._login)
        return await answer_of(self._session, method, f"{self.url}{path}", timeout, form)
