"""What schemathesis is told beside the document: what a key of idempotency stands for, and what
is too long to be asked."""

import re
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

import schemathesis
from schemathesis import Case, HookContext

_LONGEST_QUERY = 7_000
"""Characters: with path and version, a longer request line is refused before a route is found."""
_GOOD_KEY = re.compile(r"[!-~]{1,255}")


@schemathesis.hook
def filter_query(context: HookContext, query: dict[str, Any] | None) -> bool:
    """Leave out what is too long for a request line once it is quoted."""
    return len(urlencode(query or {}, doseq=True, errors="replace")) <= _LONGEST_QUERY


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, object]) -> None:
    """Give each request a key of its own; what is no key goes out as it is."""
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and _GOOD_KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"{key[:200]}-{token_hex(8)}"
