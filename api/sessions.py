"""Sessions of the page: a key is given once, a cookie that scripts cannot read stands for it."""

from http import HTTPStatus
from typing import get_args

from aiohttp import web

from api.access import (
    ANYBODY,
    COOKIE,
    PRINCIPAL,
    Gate,
    Principal,
    csrf_token,
)
from api.access_schemas import Login, SessionAnswer
from api.idempotency import NOT_KEPT
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from domain.events import KeyRole
from streams.sessions import SESSION_SECONDS

GATE = web.AppKey("gate", Gate)

routes = Routes("access")


@routes.post(
    "/api/session", SessionAnswer, role="public", problems=["wrong_key", "too_many_requests"]
)
async def begin_session(request: web.Request, body: Login) -> web.Response:
    """Begin a session: the answer sets the cookie that stands for the key from now on."""
    gate = request.app[GATE]
    key = await gate.key(request, body.api_key)
    token = await gate.begin(key)
    principal = Principal(
        name=key.name, role=key.role, cameras=key.cameras, key_id=key.id, session=token
    )
    request[PRINCIPAL] = principal
    response = answer(_session(request, principal))
    response[NOT_KEPT] = True
    response.set_cookie(
        COOKIE,
        token,
        max_age=SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=gate.clients.is_encrypted(request),
    )
    return response


@routes.get("/api/session", SessionAnswer, role="public", problems=["key_missing", "wrong_key"])
async def session(request: web.Request) -> web.Response:
    """Answer who calls, and the token that a page sends with its changes."""
    if not request.app[SERVICES].config.api_key_enabled:
        return answer(_session(request, ANYBODY))
    return answer(_session(request, await request.app[GATE].principal(request, None)))


@routes.delete("/api/session", {204: None}, role="public")
async def end_session(request: web.Request) -> web.Response:
    """End the session of the request's cookie, if it has one."""
    token = request.cookies.get(COOKIE)
    gate = request.app[GATE]
    if token:
        try:
            await gate.principal(request, None)
        except ProblemError:
            token = ""
    if token:
        await gate.end(token)
    response = web.Response(status=HTTPStatus.NO_CONTENT)
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response


def _session(request: web.Request, principal: Principal) -> SessionAnswer:
    (role,) = [known for known in get_args(KeyRole) if known == principal.role]
    return SessionAnswer(
        required=request.app[SERVICES].config.api_key_enabled,
        name=principal.name,
        role=role,
        cameras=None if principal.cameras is None else sorted(principal.cameras),
        csrf_token=None if principal.session is None else csrf_token(principal.session),
    )
