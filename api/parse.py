"""From a request to typed values, with errors that name the input and what is allowed."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, TypeVar

import msgspec
from aiohttp import ClientPayloadError, hdrs, web
from msgspec import inspect as shapes

from api.problems import ProblemError

T = TypeVar("T", bound=msgspec.Struct)

CREDENTIALS: Final = web.RequestKey("credentials", tuple[str, ...])
"""Query parameters of this request that may carry a key: they are read elsewhere."""

BODY_SECONDS = 30.0
"""How long a body may take to arrive; it has at most 64 KiB."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_YEARS = range(1970, 3000)


def path_id(request: web.Request, code: str, name: str = "id") -> str:
    """Return the id in the path; what cannot be an id is answered like one that is not there."""
    text = request.match_info[name]
    if not _ID.fullmatch(text):
        raise ProblemError(code, f"{text[:80]!r} is not an id that this server gives out")
    return text


def parse_query(request: web.Request, wanted: type[T]) -> T:
    """Read the query into `wanted`; an unknown or repeated parameter is an error, not noise."""
    fields = _fields(wanted)
    values: dict[str, object] = {}
    for name, text in request.query.items():
        if name in request.get(CREDENTIALS, ()):
            continue
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ProblemError(
                "unknown_parameter", f"{name[:80]!r} is not known here; allowed: {known}"
            )
        if name in values:
            raise ProblemError("invalid_parameter", f"{name} is given more than once")
        values[name] = _value(name, text, fields[name])
    try:
        return msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as error:
        detail = _explain(error, fields, values)
        raise ProblemError("invalid_parameter", detail) from error


async def parse_body(request: web.Request, wanted: type[T]) -> T:
    """Read the JSON body into `wanted`."""
    if request.content_type != "application/json":
        given = request.headers.get(hdrs.CONTENT_TYPE, "nothing")[:80]
        raise ProblemError("not_json_content", f"Content-Type is {given!r}; send application/json")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            data = await request.read()
    except TimeoutError as error:
        raise ProblemError(
            "request_timeout",
            f"the body did not arrive within {BODY_SECONDS:g} s",
            headers={"Connection": "close"},
        ) from error
    except (web.RequestPayloadError, ClientPayloadError) as error:
        raise ProblemError("bad_request", f"the body ended early: {error}") from error
    try:
        body = msgspec.json.decode(data, type=wanted)
        # msgspec would silently take the last of several.
        json.loads(data, object_pairs_hook=_without_duplicates)
        return body
    except msgspec.ValidationError as error:
        if (problem := _of_unknown_field(wanted, error)) is not None:
            raise problem from error
        detail = _explain(error, _fields(wanted), {})
        raise ProblemError("invalid_body", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError("invalid_json", str(error)) from error


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ProblemError("invalid_json", f"{twice[:80]!r} is given more than once")
    return found


def _value(name: str, text: str, field: shapes.Field) -> object:
    """Return what msgspec is to read: text, but for moments and what it is too lenient about."""
    kind = _not_none(field.type)
    if isinstance(kind, shapes.DateTimeType):
        return _moment(name, text)
    lenient = (isinstance(kind, shapes.BoolType) and text not in ("true", "false")) or (
        text.lower() == "null" and not isinstance(kind, shapes.StrType)
    )
    if lenient:
        raise ProblemError(
            "invalid_parameter", f"{name}={text[:80]!r} is not allowed: give {_allowed(kind)}"
        )
    return text


def _moment(name: str, text: str) -> datetime:
    """Read an ISO 8601 moment or day; without a zone it is UTC, an end day counts in full."""
    try:
        # A plus sign that was not escaped arrives as a space.
        moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
        if moment.year not in _YEARS:
            raise ValueError(f"year {moment.year}")
    except ValueError as error:
        raise ProblemError(
            "invalid_parameter",
            f"{name}={text[:80]!r} is not allowed: give {_DATE_HELP} "
            f"({_YEARS.start} to {_YEARS.stop - 1})",
        ) from error
    if _DAY.fullmatch(text) and name.startswith("end"):
        moment += timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- saying what is allowed -----------------------------------------------------------------

_DATE_HELP = "a moment like 2025-12-30T09:45:00Z or a day like 2025-12-30"


@cache
def _fields(wanted: type[msgspec.Struct]) -> dict[str, shapes.Field]:
    info = shapes.type_info(wanted)
    assert isinstance(info, shapes.StructType)  # noqa: S101 - callers pass structs
    return {field.encode_name: field for field in info.fields}


def moments_of(wanted: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of a query's parameters that are moments."""
    fields = _fields(wanted).items()
    return frozenset(name for name, field in fields if _core(field) is shapes.DateTimeType)


def _core(field: shapes.Field) -> type[shapes.Type]:
    return type(_not_none(field.type))


def _not_none(kind: shapes.Type) -> shapes.Type:
    """Return a type without what is said about it, and without null."""
    if isinstance(kind, shapes.UnionType):
        kind = next(part for part in kind.types if not isinstance(part, shapes.NoneType))
    return _not_none(kind.type) if isinstance(kind, shapes.Metadata) else kind


def _of_unknown_field(wanted: type[msgspec.Struct], error: Exception) -> ProblemError | None:
    """Return what a body's type says about a field that it has not got, if it says something."""
    says = getattr(wanted, "unknown_field", None)
    found = _UNKNOWN.search(str(error))
    problem: ProblemError | None = says(found[1]) if says and found else None
    return problem


def _explain(
    error: msgspec.ValidationError, fields: dict[str, shapes.Field], values: dict[str, object]
) -> str:
    found = _PLACE.fullmatch(str(error))
    name = found.group(2) if found else None
    if name is None or name not in fields:
        return f"{error}; known fields: {', '.join(fields)}"
    given = f"{name}={str(values[name])[:80]!r}" if name in values else name
    return f"{given} is not allowed: give {_allowed(_not_none(fields[name].type))}"


def _allowed(kind: shapes.Type) -> str:
    match kind:
        case shapes.IntType():
            return f"a whole number{_range(kind.ge, kind.le)}"
        case shapes.FloatType():
            return f"a number{_range(kind.ge, kind.le)}"
        case shapes.BoolType():
            return "true or false"
        case shapes.LiteralType():
            return "one of " + ", ".join(str(value) for value in kind.values)
        case shapes.DateTimeType():
            return _DATE_HELP
        case shapes.StrType():
            shape = " without control characters" if kind.pattern else ""
            return f"text{_range(kind.min_length, kind.max_length)}{_unit(kind)}{shape}"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _unit(kind: shapes.StrType) -> str:
    return " characters long" if kind.max_length is not None else ""


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" from {low}"
    return f" up to {high}" if low is None else f" from {low} to {high}"
