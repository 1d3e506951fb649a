"""What schemathesis is told beside the document: one idempotency key stands for one request."""

import re
from secrets import token_hex
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

_GOOD_KEY = re.compile(r"[!-~]{1,255}")


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, object]) -> None:
    """Give each request a key of its own; what is no key goes out as it is."""
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and _GOOD_KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"{key[:200]}-{token_hex(8)}"
