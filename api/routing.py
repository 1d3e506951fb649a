"""Routes: what each takes, answers and asks for, declared once at its handler.

The declaration is used three times: it reads and validates the request before the handler is
called, it says who may call the route, and the OpenAPI document is made from it. What a handler
takes beside the request follows from its parameters: `query` and `body`, each a msgspec struct
(`body: X | None` where the body may be left out).
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from http import HTTPStatus
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import hdrs, web

from api.idempotency import once
from api.parse import parse_body, parse_query
from api.services import SERVICES
from streams.requests import SeenRequests

Role = Literal["public", "viewer", "operator", "admin"]
"""Who may call a route while keys are asked for; each may do what those before it may."""

Answer = type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] | str | None
"""A struct sent as JSON (or one of several), media types of something else (with ", " between
them), or None for an answer without a body."""

Handler = Callable[..., Awaitable[web.StreamResponse]]

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class NoQuery(msgspec.Struct, frozen=True):
    """A route without query parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route as it was declared."""

    method: str
    path: str
    name: str
    """The handler's name: unique, and the operation's id in the OpenAPI document."""
    topic: str
    summary: str
    role: Role
    query: type[msgspec.Struct]
    body: type[msgspec.Struct] | None
    body_required: bool
    answers: Mapping[int, Answer]
    problems: tuple[str, ...]
    """Codes of api.problems that only this route answers, beside those that any may."""
    documented: bool
    """False for the pages themselves, which are no part of the interface."""

    @property
    def writes(self) -> bool:
        """Say whether calling it may change something."""
        return self.method in _WRITES


OPERATION: Final = "hsi_operation"
"""The attribute under which a route's handler carries its Operation."""


def operation_of(request: web.Request) -> Operation | None:
    """Return what was declared of the route that a request reached, None for an unknown one."""
    return getattr(request.match_info.handler, OPERATION, None)


class Routes:
    """The routes of one topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.operations: list[Operation] = []
        self._table: list[web.RouteDef] = []

    def definitions(self) -> Iterable[web.RouteDef]:
        """Return the routes as aiohttp takes them."""
        return tuple(self._table)

    def route(
        self,
        method: str,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
        documented: bool = True,
    ) -> Callable[[Handler], Handler]:
        """Declare a route; without a `role` viewers may read and operators may write."""

        def declare(handler: Handler) -> Handler:
            query, body, body_required = _taken(handler)
            operation = Operation(
                method=method,
                path=path,
                name=handler.__name__,
                topic=self.topic,
                summary=inspect.getdoc(handler) or "",
                role=role or ("operator" if method in _WRITES else "viewer"),
                query=query or NoQuery,
                body=body,
                body_required=body_required,
                answers=answers if isinstance(answers, Mapping) else {int(HTTPStatus.OK): answers},
                problems=tuple(problems),
                documented=documented,
            )
            self.operations.append(operation)
            read = _reading(operation, handler, query)
            self._table.append(web.route(method, path, read, expect_handler=_go_on))
            return handler

        return declare

    def get(
        self,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
        documented: bool = True,
    ) -> Callable[[Handler], Handler]:
        """Declare a route that reads; aiohttp lets it answer HEAD, too."""

        return self.route(
            "GET", path, answers, role=role, problems=problems, documented=documented
        )

    def post(
        self,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a route that makes or does something."""
        return self.route("POST", path, answers, role=role, problems=problems)

    def put(
        self,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a route that replaces something."""
        return self.route("PUT", path, answers, role=role, problems=problems)

    def patch(
        self,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a route that changes something."""
        return self.route("PATCH", path, answers, role=role, problems=problems)

    def delete(
        self,
        path: str,
        answers: Answer | Mapping[int, Answer],
        *,
        role: Role | None = None,
        problems: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a route that removes something."""
        return self.route("DELETE", path, answers, role=role, problems=problems)


def _taken(
    handler: Handler,
) -> tuple[type[msgspec.Struct] | None, type[msgspec.Struct] | None, bool]:
    """Return the types of a handler's `query` and `body`, and whether the body must be there."""
    hints = get_type_hints(handler)
    body = hints.get("body")
    if get_origin(body) in (Union, UnionType):
        (kind,) = (part for part in get_args(body) if part is not NoneType)
        return hints.get("query"), kind, False
    return hints.get("query"), body, body is not None


async def _go_on(request: web.Request) -> None:
    """Let a client send its body that waits for a word; any other expectation is passed over.

    aiohttp's own handler would refuse that before any middleware could say how.
    """
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # Nothing of the answer itself has been sent.


def _reading(
    operation: Operation, handler: Handler, query: type[msgspec.Struct] | None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler that aiohttp calls: it reads the request, then calls `handler`."""

    @wraps(handler)
    async def read(request: web.Request) -> web.StreamResponse:
        given: dict[str, Any] = {}
        if query is not None:
            given["query"] = parse_query(request, query)
        elif request.query_string:
            parse_query(request, operation.query)  # says which parameters there are
        if operation.body is not None:
            there = operation.body_required or request.body_exists
            given["body"] = await parse_body(request, operation.body) if there else None
        if not operation.writes:
            return await handler(request, **given)
        body = b"" if operation.body is None else await request.read()
        seen = SeenRequests(request.app[SERVICES].log)
        return await once(seen, request, body, partial(handler, request, **given))

    setattr(read, OPERATION, operation)
    return read
