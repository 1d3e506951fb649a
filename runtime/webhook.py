"""Webhook: one HTTP POST to an address that may be called, and what came of it.

The host is resolved here, its addresses are judged, and the connection goes to these very
addresses: nothing is resolved between the check and the call. Redirects are not followed, no proxy
is used, and of the answer only the status counts; its body is never read.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from domain.egress import EgressRefusedError, Network, refusal, refused, target_of
from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError

SERVICE: Final = "webhook"
MOST_ADDRESSES: Final = 8
BUFFER_BYTES: Final = 4096
"""What is kept of an answer's body that nobody reads: at most twice as much."""

CONNECT_SECONDS: Final = 10.0

_AWAY: Final = frozenset({429, 502, 503, 504})
"""Statuses by which a receiver says that it takes nothing at present."""
_AGAIN: Final = frozenset({408, 425})

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host; raises OSError when it has none."""


class NotTakenError(PermanentError):
    """The receiver refuses the message; it would refuse it again."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TroubledError(TransientError):
    """The receiver stumbled over the message; it may take it another time."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver took the message."""

    status: int
    seconds: float


def status_of(error: HsiError) -> int | None:
    """Return the HTTP status behind an error, None when there was no answer."""
    return error.status if isinstance(error, NotTakenError | TroubledError) else None


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """Ask the system for a host's addresses."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class GuardedResolver(AbstractResolver):
    """Resolves a host for a connection, and answers addresses that may be called only."""

    def __init__(self, allowed: Sequence[Network], lookup: Lookup = addresses_of) -> None:
        self._allowed = allowed
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return a host's addresses; raises EgressRefusedError if one of them is not allowed.

        One bad address among good ones is how a name is bent to reach it, so all are refused.
        """
        found = await self._lookup(host, port)
        if not found:
            raise OSError(f"{host} has no address")
        return [self._allowed_one(host, port, text) for text in found[:MOST_ADDRESSES]]

    def _allowed_one(self, host: str, port: int, text: str) -> ResolveResult:
        # A scope (fe80::1%eth0) belongs to a link-local address, and none of these is allowed.
        address = ip_address(text.partition("%")[0])
        if why := refusal(address, self._allowed):
            raise EgressRefusedError(refused(host, address, why))
        return ResolveResult(
            hostname=host,
            host=str(address),
            port=port,
            family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
            proto=0,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )

    async def close(self) -> None:
        """Nothing is kept open."""


class Webhook:
    """One receiver of messages."""

    def __init__(
        self,
        url: str,
        *,
        allowed: Sequence[Network] = (),
        timeout_seconds: float = 30.0,
        agent: str = "hsi",
        lookup: Lookup = addresses_of,
    ) -> None:
        self.target = target_of(url, allowed)
        self._resolver = GuardedResolver(allowed, lookup)
        self._seconds = timeout_seconds
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message_id: str, body: bytes) -> Taken:
        """Send one message; the receiver tells by its id what it had before.

        Raises ServiceUnavailableError when the receiver is away, TroubledError when another try
        may help, NotTakenError when none will, and EgressRefusedError when its host is not to be
        called.
        """
        began = time.monotonic()
        status, after = await self._post(message_id, body)
        if 200 <= status < 300:
            return Taken(status, round(time.monotonic() - began, 3))
        said = f"{self.target.shown} answered {status}{_phrase(status)}"
        if status in _AWAY:
            raise ServiceUnavailableError(SERVICE, said, retry_after=after)
        if status in _AGAIN or status >= 500:
            raise TroubledError(said, status)
        if 300 <= status < 400:
            said += "; redirects are not followed: set DEFAULT_WEBHOOK_URL to the place itself"
        raise NotTakenError(said, status)

    async def close(self) -> None:
        """Close what the last call opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, message_id: str, body: bytes) -> tuple[int, float | None]:
        shown, session = self.target.shown, self._opened()
        headers = {"Idempotency-Key": message_id, "Content-Type": "application/json"}
        url = URL(self.target.url, encoded=True)
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                after = _seconds(response.headers.get("Retry-After", ""))
                response.close()  # Its body is nobody's business, and may have no end.
                return response.status, after
        except TimeoutError as error:
            said = f"{shown} did not answer within {self._seconds:g} s (WEBHOOK_TIMEOUT_SECONDS)"
            raise ServiceUnavailableError(SERVICE, said) from error
        except aiohttp.ClientConnectorError as error:
            said = f"{shown} cannot be reached: {_why(error)}"
            raise ServiceUnavailableError(SERVICE, said) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TroubledError(f"{shown} broke off: {type(error).__name__}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Messages are rare: each opens a connection of its own, to addresses just judged.
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, use_dns_cache=False, force_close=True
            )
            timeout = aiohttp.ClientTimeout(
                total=self._seconds, sock_connect=min(CONNECT_SECONDS, self._seconds)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=BUFFER_BYTES,
                trust_env=False,
            )
        return self._session


def _why(error: aiohttp.ClientConnectorError) -> str:
    """Return why there is no connection, without the URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted ({error.certificate_error})"
    cause = error.os_error
    if cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return cause.strerror or str(cause) or type(cause).__name__


def _seconds(text: str) -> float | None:
    """Read a Retry-After in seconds; dates and anything else are passed over."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
