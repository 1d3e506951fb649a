"""Connections before their first request: none waits for ever, and none is in another's way.

A connection that has not sent a whole request head within HEAD_SECONDS is closed. Where very many
wait at once, the one that waits longest goes: whoever really asks does so in the first moments, so
thousands of half-open connections shut nobody out. Who asks and then reads nothing of the answer
goes, too.

With TLS the first byte tells plain HTTP apart: it is answered with where to go, on the same port.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler

from api.middleware import SAFE_HEADERS, SERVER
from api.problems import ProblemError, problem_response

logger = logging.getLogger(__name__)

HEAD_SECONDS: Final = 10.0
"""How long the head of a connection's first request may take, TLS handshake included."""

MOST_WAITING: Final = 1000
"""Connections without a request at once; with more, the oldest one goes."""

SPARE_FILES: Final = MOST_WAITING + 200
"""Files beside WebSocket clients: connections without a request, stores, pictures, logs."""

LOOK_SECONDS: Final = 1.0
BACKLOG: Final = 1024

TAKE_AT_ONCE: Final = 64
"""Connections taken before those that were taken have their turn: when thousands come at once and
ask at once, they are answered, and do not wait in such numbers that the oldest have to go."""

KEEP_ALIVE_SECONDS: Final = 75.0
"""How long a connection may wait for its next request, or for the rest of that request's head."""

READ_SECONDS: Final = 60.0
"""How long a client may not read at all while an answer waits for it; the kernel sees to it."""

_TLS_HANDSHAKE: Final = 0x16
_MOST_HEAD: Final = 8192
_MOST_DETAIL: Final = 200
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Close = Callable[[], object]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Doorkeeper:
    """Knows which connections have not asked for anything yet."""

    def __init__(
        self, head_seconds: float = HEAD_SECONDS, most_waiting: int = MOST_WAITING
    ) -> None:
        self.head_seconds = head_seconds
        self._most = most_waiting
        self._waiting: OrderedDict[Close, float] = OrderedDict()
        """What closes a connection → until when it may wait."""

    def comes(self, close: Close) -> None:
        """Note a connection that waits from now on; `close` ends it, also when it has ended."""
        now = asyncio.get_running_loop().time()
        self._waiting[close] = now + self.head_seconds
        if len(self._waiting) > self._most:
            oldest, _ = self._waiting.popitem(last=False)
            oldest()

    def asks(self, close: Close) -> None:
        """Note that a connection has sent its request, or is gone."""
        self._waiting.pop(close, None)

    async def run(self) -> None:
        """Close what has waited too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            while self._waiting:
                close, until = next(iter(self._waiting.items()))
                if until > loop.time():
                    break
                del self._waiting[close]
                close()

    def middleware(self) -> Middleware:
        """Return the middleware that tells of a connection's requests; the first of all."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.asks(request.protocol.force_close)
            return await handler(request)

        return middleware


def allow_many_files(clients: int) -> int:
    """Let this process open as many files and connections as it may; return how many.

    Warns when so many `clients` and everything else do not fit: whoever comes then has to wait.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != resource.RLIM_INFINITY and allowed < clients + SPARE_FILES:
        logger.warning(
            "this process may have %d files and connections open, which is too few for "
            "WEBSOCKET_MAX_CLIENTS=%d and %d others: raise `ulimit -n` or lower the setting",
            allowed,
            clients,
            SPARE_FILES,
        )
    return allowed


class Acceptor:
    """Takes connections from a listening socket and hands them to an application's server."""

    def __init__(
        self,
        listener: socket.socket,
        server: Callable[[], RequestHandler],
        door: Doorkeeper,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._server = server
        self._door = door
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take connections from now on."""
        self._keeper = asyncio.create_task(self._door.run(), name="doorkeeper")
        self._loop.add_reader(self._listener.fileno(), self._accept)

    async def stop(self) -> None:
        """Take no more; what was taken goes on."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        tasks = [*self._tasks, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(TAKE_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                self._pause(error)
                return
            connection.setblocking(False)
            if sys.platform == "linux":
                unread = int(READ_SECONDS * 1000)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
            task = self._loop.create_task(self._take(connection), name="connection")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pause(self, error: OSError) -> None:
        """Look again in a moment: connections that wait too long are closed by then."""
        logger.warning("no connection can be taken at present: %s", error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(LOOK_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _take(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - started as one
        self._door.comes(task.cancel)
        try:
            if self._tls is not None and await self._is_plain(connection):
                await self._redirect(connection)
                return
            handler = self._server()
            await self._loop.connect_accepted_socket(
                lambda: handler,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._door.head_seconds,
            )
        except asyncio.CancelledError:
            # The doorkeeper's word, or the end of the server.
            connection.close()
        except OSError as error:
            connection.close()
            logger.debug("a connection came to nothing: %s", error)
        else:
            self._door.comes(handler.force_close)
        finally:
            self._door.asks(task.cancel)

    async def _is_plain(self, connection: socket.socket) -> bool:
        """Wait for the first byte, and say whether it is none of TLS; nothing is read yet."""
        readable = asyncio.Event()
        self._loop.add_reader(connection.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(connection.fileno())
        first = connection.recv(1, socket.MSG_PEEK)
        if not first:
            raise ConnectionAbortedError("it left without a word")
        return first[0] != _TLS_HANDSHAKE

    async def _redirect(self, connection: socket.socket) -> None:
        """Answer plain HTTP with the same address by TLS."""
        with connection:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < _MOST_HEAD:
                if not (more := await self._loop.sock_recv(connection, _MOST_HEAD)):
                    return
                head += more
            await self._loop.sock_sendall(connection, _moved(head))


def _moved(head: bytes) -> bytes:
    """Return the answer to a plain request: 308 to its own address by TLS, 400 without one."""
    lines = head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
    request = lines[0].split(b" ")
    hosts = [line[5:].strip() for line in lines[1:] if line[:5].lower() == b"host:"]
    target = request[1] if len(request) == 3 else b""
    if len(hosts) != 1 or not hosts[0] or not target.startswith(b"/"):
        return b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    where = b"https://" + hosts[0] + target
    return (
        b"HTTP/1.1 308 Permanent Redirect\r\nLocation: " + where + b"\r\n"
        b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    )


class _Connection(RequestHandler):
    """A connection that answers what is no HTTP as every other error is answered."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that reached no handler; it ends the connection."""
        super().handle_error(request, status, exc, message)
        if isinstance(exc, UnicodeError):  # A header of bytes that are no text.
            status, message = HTTPStatus.BAD_REQUEST, "a header is no text"
        ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code = "internal_error" if ours else "bad_request"
        detail = "" if ours else " ".join((message or "").split())[:_MOST_DETAIL]
        response = problem_response(ProblemError(code, detail), status=status)
        response.headers.update(SAFE_HEADERS)
        response.headers["Server"] = SERVER
        response.force_close()
        return response


class _NotOurs(logging.Filter):
    """Passes over requests that are no HTTP: they are answered 400, and anybody may send many."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError | UnicodeError)


def _server_log() -> logging.Logger:
    log = logging.getLogger("api.http")
    if not log.filters:
        log.addFilter(_NotOurs())
    return log


async def serve(
    app: web.Application,
    listener: socket.socket,
    tls: ssl.SSLContext | None = None,
    *,
    drain_seconds: float,
    door: Doorkeeper | None = None,
) -> Callable[[], Awaitable[None]]:
    """Serve an application on a copy of the listener; return what stops that, politely.

    Its connections are closed by then, the listener's own backlog waits for whoever serves next.
    """
    door = door or Doorkeeper()
    app.middlewares.insert(0, door.middleware())
    runner = web.AppRunner(app, shutdown_timeout=drain_seconds)
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None  # noqa: S101 - it is set up

    def connection() -> RequestHandler:
        return _Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # None keeps none, as for web.AppRunner
            logger=_server_log(),
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )

    acceptor = Acceptor(listener.dup(), connection, door, tls)
    acceptor.start()

    async def stop() -> None:
        await acceptor.stop()
        await runner.cleanup()

    return stop
