"""Who may call what: keys and sessions, roles, cameras, refusals.

One middleware stands before every route. What a route asks for is declared with it
(`Operation.role`); which routes a key for some cameras may call is listed in api/access_scope.py.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Middleware

from api.access_audit import Audit
from api.access_keys import Key, KeyRing
from api.access_scope import SCOPED
from api.addresses import Clients
from api.limits import RateLimits, Windows, is_live, is_media, too_many
from api.parse import CREDENTIALS
from api.problems import ProblemError
from api.routing import Operation, Role, operation_of
from domain.errors import TransientError
from projections.scope import seeing_only
from streams.sessions import Sessions

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE: Final = "hsi_session"
KEY_HEADER: Final = "X-API-Key"
CSRF_HEADER: Final = "X-CSRF-Token"
PROTOCOL: Final = "api-key."
"""How the WebSocket sub-protocol that carries a key begins."""

_RANK: Final[dict[Role, int]] = {"public": 0, "viewer": 1, "operator": 2, "admin": 3}

WRONG_KEYS_A_MINUTE: Final = 10
"""After so many wrong keys an address has to wait, also with a right one."""

SESSION_FRESH_SECONDS: Final = 5.0
"""How long a session that was found is not looked for again, so how late its end may count."""

SESSION_STALE_SECONDS: Final = 600.0
"""How long a session that was found counts while Redis is away."""

_MOST_SESSIONS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls."""

    name: str
    role: Role
    cameras: frozenset[str] | None = None
    key_id: str | None = None
    session: str | None = None
    """The token, where a session stands for the key."""


ANYBODY: Final = Principal(name="anonymous", role="admin")
"""Whoever calls while no keys are asked for."""

NOBODY: Final = Principal(name="anonymous", role="public")

PRINCIPAL: Final = web.RequestKey("principal", Principal)


def actor_of(request: web.Request) -> str:
    """Return the name under which the audit knows who calls."""
    return _principal_of(request).name


def key_of(request: web.Request) -> str | None:
    """Return the id of the key that lets a request in, None where none is asked for."""
    return _principal_of(request).key_id


def _principal_of(request: web.Request) -> Principal:
    principal: Principal = request.get(PRINCIPAL, NOBODY)
    return principal


def csrf_token(session: str) -> str:
    """Return what a page must send with every change: it follows from its session's token, which
    other sites' pages cannot read."""
    return sha256(f"csrf {session}".encode()).hexdigest()


class Gate:
    """Lets callers in, or says why not."""

    def __init__(
        self, ring: KeyRing, sessions: Sessions, clients: Clients, windows: Windows
    ) -> None:
        self.ring = ring
        self.clients = clients
        self._sessions = sessions
        self._windows = windows
        self._shut: dict[str, float] = {}
        """Address → until when it has to wait for its wrong keys."""
        self._found: dict[str, tuple[str, float]] = {}
        """Session → its key and when it was found."""

    async def admit(self, request: web.Request, operation: Operation) -> Principal:
        """Return who calls; raises ProblemError when they may not call this."""
        if operation.role == "public":
            return NOBODY
        principal = await self.principal(request, operation)
        if _RANK[principal.role] < _RANK[operation.role]:
            raise ProblemError(
                "role_too_low",
                f"{principal.name!r} is {principal.role}; this takes {operation.role}",
            )
        if principal.cameras is not None and operation.name not in SCOPED:
            raise ProblemError(
                "outside_scope",
                f"{principal.name!r} is for some cameras; this tells of all, or changes more",
            )
        return principal

    async def principal(self, request: web.Request, operation: Operation | None) -> Principal:
        """Return who calls, by key or by session; raises ProblemError when that is nobody."""
        given = _given_key(request, operation)
        if given is not None:
            return _known(request, _by_key(await self.key(request, given)))
        token = request.cookies.get(COOKIE)
        key = await self._of_session(token) if token else None
        if token is None or key is None:
            raise _missing(ended=token is not None)
        principal = _known(request, _by_key(key, session=token))
        if operation is not None and operation.writes:
            said = request.headers.get(CSRF_HEADER, "")
            if not compare_digest(said.encode("utf-8", "replace"), csrf_token(token).encode()):
                raise ProblemError(
                    "csrf_token_missing",
                    f"changes by a session carry {CSRF_HEADER}; GET /api/session tells it",
                )
        return principal

    async def key(self, request: web.Request, given: str) -> Key:
        """Return the key that was given; raises ProblemError when it is none."""
        address = self.clients.address(request)
        left = self._shut.get(address, 0.0) - time.monotonic()
        if left > 0:
            raise too_many(f"{WRONG_KEYS_A_MINUTE} wrong keys a minute", left)
        self._shut.pop(address, None)
        key = self.ring.find(given)
        if key is not None:
            return key
        hit = await self._windows.hit(f"wrong-key {address}", WRONG_KEYS_A_MINUTE)
        if hit.remaining == 0:
            self._shut[address] = time.monotonic() + (hit.retry_seconds or 60.0)
        raise ProblemError(
            "wrong_key", "this key is not known, or was revoked", headers=_challenge()
        )

    async def begin(self, key: Key) -> str:
        """Begin a session of a key; return its token."""
        return await self._sessions.begin(key.id)

    async def end(self, token: str) -> None:
        """End a session."""
        self._found.pop(token, None)
        await self._sessions.end(token)

    async def _of_session(self, token: str) -> Key | None:
        now = time.monotonic()
        key_id, at = self._found.get(token, (None, -SESSION_STALE_SECONDS))
        if now - at >= SESSION_FRESH_SECONDS:
            try:
                key_id = await self._sessions.find(token)
            except TransientError:
                if key_id is None or now - at >= SESSION_STALE_SECONDS:
                    raise
            else:
                self._remember(token, key_id, now)
        return None if key_id is None else self.ring.get(key_id)

    def _remember(self, token: str, key_id: str | None, now: float) -> None:
        self._found.pop(token, None)
        if key_id is None:
            return
        self._found[token] = (key_id, now)
        if len(self._found) > _MOST_SESSIONS:
            del self._found[next(iter(self._found))]


def _known(request: web.Request, principal: Principal) -> Principal:
    """Note who calls, so that a refusal can name them."""
    request[PRINCIPAL] = principal
    return principal


def _by_key(key: Key, *, session: str | None = None) -> Principal:
    return Principal(
        name=key.name, role=key.role, cameras=key.cameras, key_id=key.id, session=session
    )


def _missing(*, ended: bool) -> ProblemError:
    what = "this session has ended, or its key was revoked" if ended else "no key was given"
    return ProblemError(
        "key_missing",
        f"{what}: send one in the header {KEY_HEADER}, or begin a session at /api/session",
        headers=_challenge(),
    )


def _challenge() -> dict[str, str]:
    return {"WWW-Authenticate": f'ApiKey realm="hsi", header="{KEY_HEADER}"'}


def _given_key(request: web.Request, operation: Operation | None) -> str | None:
    """Return the key in the header, or where no header can be sent in the address."""
    given = request.headers.get(KEY_HEADER)
    if given is not None or operation is None:
        return given
    if is_live(operation):
        protocol = next((p for p in offered(request) if p.startswith(PROTOCOL)), None)
        if protocol is not None:
            return protocol.removeprefix(PROTOCOL)
    for name in request.get(CREDENTIALS, ()):
        if name in request.query:
            return request.query[name]
    return None


def offered(request: web.Request) -> list[str]:
    """Return the WebSocket sub-protocols that a client offers."""
    given = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [part.strip() for part in given.split(",") if part.strip()]


def credentials_in_query(operation: Operation) -> tuple[str, ...]:
    """Return the query parameters of a route that may carry a key: browsers send no header when
    they load a picture or open a WebSocket."""
    if is_live(operation):
        return ("api_key", "token")
    return ("api_key",) if is_media(operation) else ()


def guarded(gate: Gate, limits: RateLimits | None, audit: Audit, *, ask: bool) -> Middleware:
    """Return the middleware that stands before every route; `ask`: keys are asked for."""
    guard = _Guard(gate, limits, audit, ask=ask)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = operation_of(request)
        if operation is None:
            await guard.count(request, None, NOBODY)
            return await handler(request)
        return await guard.call(request, operation, handler)

    return middleware


class _Guard:
    """Lets in who may call, counts their calls, and notes what they change."""

    def __init__(self, gate: Gate, limits: RateLimits | None, audit: Audit, *, ask: bool) -> None:
        self._gate = gate
        self._limits = limits
        self._audit = audit
        self._ask = ask
        self._carries: dict[str, tuple[str, ...]] = {}
        """Operation → what `credentials_in_query` says of it."""

    def _carried(self, operation: Operation) -> tuple[str, ...]:
        found = self._carries.get(operation.name)
        if found is None:
            found = self._carries[operation.name] = credentials_in_query(operation)
        return found

    async def call(
        self, request: web.Request, operation: Operation, handler: Handler
    ) -> web.StreamResponse:
        """Call a route's handler, if this caller may."""
        if carried := self._carried(operation):
            request[CREDENTIALS] = carried
        try:
            request[PRINCIPAL] = principal = await self._let_in(request, operation)
            with seeing_only(principal.cameras):
                response = await handler(request)
        except ProblemError as problem:
            if problem.code in _AUDITED:
                await self._audit.refused(request, operation, self._who(request), problem)
            if problem.code in _REFUSALS and is_live(operation):
                return await _close_refused(request, problem)
            raise
        if operation.writes:
            # What the request has found out about its caller counts: a session that it began.
            await self._audit.done(request, operation, self._who(request), response.status)
        return response

    async def count(
        self, request: web.Request, operation: Operation | None, principal: Principal
    ) -> None:
        """Count a call; raises ProblemError when there were too many."""
        if self._limits is not None:
            clients = self._gate.clients
            who = f"{principal.key_id or '-'} {clients.address(request)}"
            await self._limits.check(operation, who, here=clients.is_here(request))

    async def _let_in(self, request: web.Request, operation: Operation) -> Principal:
        principal = ANYBODY
        try:
            if self._ask:
                principal = NOBODY
                principal = await self._gate.admit(request, operation)
        finally:
            # Who is not let in is counted as well, by address.
            await self.count(request, operation, principal)
        return principal

    def _who(self, request: web.Request) -> tuple[str, str]:
        principal = _principal_of(request)
        name = "unknown" if self._ask and principal is NOBODY else principal.name
        return name, self._gate.clients.address(request)


_REFUSED: Final = frozenset({"wrong_key", "role_too_low", "outside_scope", "csrf_token_missing"})
"""Refusals that are noted. Asking without any key is no attempt at anything."""

_AUDITED: Final = _REFUSED | {"service_action_failed", "supervisor_silent"}
"""What is noted beside what was done: refusals, and what was asked for and failed."""

_REFUSALS: Final = _REFUSED | {"key_missing", "too_many_requests"}


async def _close_refused(request: web.Request, problem: ProblemError) -> web.StreamResponse:
    """Refuse a WebSocket so that its client can tell why: browsers show no HTTP answer."""
    ws = web.WebSocketResponse(protocols=offered(request)[:1])
    if not ws.can_prepare(request).ok:
        raise problem
    await ws.prepare(request)
    await ws.close(
        code=WSCloseCode.POLICY_VIOLATION,
        message=f"{problem.code}: {problem.detail}".encode()[:120],
    )
    return ws
