"""The OpenAPI 3.1 document, made from what the routes declare: the types that validate requests
and encode answers are the ones described."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

import msgspec

from api.access import COOKIE, CSRF_HEADER, KEY_HEADER, credentials_in_query
from api.access_scope import SCOPED
from api.idempotency import KEY_PATTERN
from api.parse import moments_of
from api.problems import CODES, Problem
from api.routing import Answer, NoQuery, Operation

Json = dict[str, Any]
"""A piece of a JSON document: built here, encoded once, handed on as bytes."""

_PARAMETER = re.compile(r"\{(\w+)(?::([^}]+))?\}")
_ANYTHING: Final = r"[\s\S]+"
_CHOICE = re.compile(r"\w+(\|\w+)*")
_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "application/problem+json"

_ANY: Final = ("bad_request", "invalid_parameter", "unknown_parameter")
_ANY_KEY: Final = (
    "key_missing",
    "wrong_key",
    "role_too_low",
    "outside_scope",
    "csrf_token_missing",
    "too_many_requests",
)
"""Where keys are asked for, and requests counted."""

_ANY_BODY: Final = ("invalid_json", "body_too_large", "not_json_content", "invalid_body")
_ANY_WRITE: Final = ("request_in_progress", "idempotency_key_reused")
_AWAY: Final = ("database_unavailable", "redis_unavailable", "service_unavailable")

_SCHEMES: Final[dict[str, Json]] = {
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "A named key. Roles: viewer reads, operator changes, admin administers; "
        "each may do what those before it may (`x-role`). A key for some cameras only may call "
        "where `x-camera-keys` is true. Keys are asked for while API_KEY_ENABLED=true.",
    },
    "keyInQuery": {
        "type": "apiKey",
        "in": "query",
        "name": "api_key",
        "description": "The same, where a browser loads by itself and can send no header.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A session of a key, begun by POST /api/session.",
    },
    "sessionToken": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "With every change by a session; GET /api/session tells it.",
    },
}

SCHEMA_ALSO: Final = "SCHEMA_ALSO"
"""Class attribute of a body: what JSON Schema can say of it beyond the types of its fields."""

_MOMENT: Final = {
    "description": "A moment like 2025-12-30T09:45:00Z (without a zone it is UTC), or a day like "
    "2025-12-30; an end day counts in full.",
    "type": "string",
    "pattern": r"^(19[7-9]\d|2\d{3})-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"(T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3})?Z)?$",
}
_TEXT_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"}


def document(operations: Iterable[Operation], *, title: str, version: str) -> bytes:
    """Return the document as JSON."""
    documented = [op for op in operations if op.documented and not _is_websocket(op)]
    schemas = _schemas(documented)
    paths: dict[str, Json] = {}
    shared: dict[str, Json] = {}
    for operation in documented:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        described = _described(operation)
        described["responses"] = dict(_responses(operation, shared))
        paths.setdefault(path, {})[operation.method.lower()] = described
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Times are ISO 8601 in UTC. Lists come in pages: ask for the next one "
            "with the `next_cursor` of the last. Errors are problem+json (RFC 9457) with a "
            "stable `code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": topic} for topic in dict.fromkeys(op.topic for op in documented)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": dict(sorted(shared.items())),
            "securitySchemes": _SCHEMES,
        },
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)


def _is_websocket(operation: Operation) -> bool:
    """Say whether a route speaks WebSocket, which OpenAPI has no words for."""
    return int(HTTPStatus.SWITCHING_PROTOCOLS) in operation.answers


def _schemas(operations: Iterable[Operation]) -> dict[str, Json]:
    wanted: list[Any] = [Problem]
    for operation in operations:
        wanted += [operation.body] if operation.body else []
        for answer in operation.answers.values():
            wanted += _structs(answer)
    _, schemas = msgspec.json.schema_components(dict.fromkeys(wanted), ref_template=_REFERENCE)
    for kind in {each.body for each in operations if each.body is not None}:
        schemas[kind.__name__] |= getattr(kind, SCHEMA_ALSO, {})
    return schemas


def _structs(answer: Answer) -> tuple[type[msgspec.Struct], ...]:
    if answer is None or isinstance(answer, str):
        return ()
    return answer if isinstance(answer, tuple) else (answer,)


def _described(operation: Operation) -> Json:
    told = operation.summary.split("\n\n", 1)
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.topic],
        "summary": told[0].replace("\n", " "),
        "x-role": operation.role,
        "x-camera-keys": operation.role == "public" or operation.name in SCOPED,
        "security": _security(operation),
    }
    if len(told) > 1:
        described["description"] = told[1]
    if parameters := [*_in_path(operation), *_in_query(operation), *_headers(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    return described


def _security(operation: Operation) -> list[Json]:
    """Return the ways to say who calls, any one of which is enough; none for what is public."""
    if operation.role == "public":
        return []
    by_session = ("session", "sessionToken") if operation.writes else ("session",)
    ways: list[tuple[str, ...]] = [("key",), by_session]
    if "api_key" in credentials_in_query(operation):
        ways.append(("keyInQuery",))
    return [{scheme: [] for scheme in way} for way in ways]


def _reference(kind: type[msgspec.Struct]) -> Json:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def _in_path(operation: Operation) -> Iterator[Json]:
    for name, pattern in _PARAMETER.findall(operation.path):
        schema = _choice(pattern) if _CHOICE.fullmatch(pattern) else _TEXT_ID
        if pattern == _ANYTHING:
            schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _choice(pattern: str) -> Json:
    return {"type": "string", "enum": pattern.split("|")}


def _shape(query: type[msgspec.Struct]) -> Json:
    _, schemas = msgspec.json.schema_components([query])
    shape: Json = schemas[query.__name__]
    return shape


def _in_query(operation: Operation) -> Iterator[Json]:
    if operation.query is NoQuery:
        return
    shape = _shape(operation.query)
    moments = moments_of(operation.query)
    for name, schema in shape["properties"].items():
        default = schema.get("default")
        plain = _MOMENT if name in moments else _plain(schema)
        told = {key: value for key, value in plain.items() if key != "default"}
        parameter: Json = {"name": name, "in": "query", "schema": told}
        if default is not None:
            told["default"] = default
        if name in shape.get("required", ()):
            parameter["required"] = True
        yield parameter


def _plain(schema: Json) -> Json:
    """Return the schema of a query parameter: nothing in a query is null."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    told = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if "description" in schema and "description" not in told:
        return {**told, "description": schema["description"]}
    return dict(told)


def _headers(operation: Operation) -> Iterator[Json]:
    if operation.writes:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same key with the same request has one effect.",
            "schema": {"type": "string", "pattern": KEY_PATTERN},
        }


def _responses(operation: Operation, shared: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    """Give the answers of a route; the problems, which many routes share, go into `shared`."""
    for status, answer in operation.answers.items():
        yield str(status), _answered(status, answer)
    for status, codes in sorted(_problems(operation).items()):
        if status not in operation.answers:
            name = f"{status}-{'-'.join(codes)}"
            shared.setdefault(name, _problem(status, codes))
            yield str(status), {"$ref": f"#/components/responses/{name}"}


def _answered(status: int, answer: Answer) -> Json:
    said: Json = {"description": HTTPStatus(status).phrase}
    if isinstance(answer, str):
        said["content"] = {
            kind: {"schema": {"type": "object" if kind == "application/json" else "string"}}
            for kind in answer.split(", ")
        }
    elif structs := _structs(answer):
        kinds = [_reference(kind) for kind in structs]
        schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        said["content"] = {"application/json": {"schema": schema}}
    return said


def _problems(operation: Operation) -> dict[int, list[str]]:
    codes = [
        *_ANY,
        *(() if operation.role == "public" else _ANY_KEY),
        *(_ANY_BODY if operation.body else ()),
        *(_ANY_WRITE if operation.writes else ()),
        *operation.problems,
        *_AWAY,
    ]
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code][0], []).append(code)
    return by_status


def _problem(status: int, codes: list[str]) -> Json:
    lines = [f"`{code}`: {CODES[code][1]}" for code in codes]
    schema: Json = {
        "allOf": [_reference(Problem), {"properties": {"code": {"enum": codes}}}],
    }
    return {
        "description": f"{HTTPStatus(status).phrase}. " + "; ".join(lines),
        "content": {_PROBLEM: {"schema": schema}},
    }
