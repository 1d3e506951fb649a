"""Asks a running API: the commands that look at a running installation go through it.

Thus they work the same for `hsi up`, whose servers nobody else can reach, and for many machines.
"""

import json
import urllib.error
import urllib.request
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from domain.errors import HsiError
from runtime.settings import load_settings

WAIT_SECONDS: Final = 60.0

Url = Annotated[
    str | None,
    typer.Option("--url", help="Where the API answers; else http://127.0.0.1:API_PORT."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

Answer = Any
"""An answer's JSON: the API's schemas say what is in it."""


class AnswerError(HsiError):
    """The API refused a request; `code` is its stable word for why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Remote:
    """One running API."""

    def __init__(self, url: str | None) -> None:
        self.url = (url or f"http://127.0.0.1:{load_settings().api_port}").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise HsiError(f"--url {self.url!r} must begin with http:// or https://")

    def ask(
        self, path: str, *, method: str = "GET", body: object = None, **query: object
    ) -> Answer:
        """Return the answer's JSON; parameters that are None are left out."""
        given = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in query.items()
            if value is not None
        }
        address = f"{self.url}{quote(path)}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            address, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except (OSError, ValueError) as error:
            raise HsiError(
                f"{self.url} does not answer ({error}): start it with `hsi up`, or say where the "
                "API is with --url"
            ) from error


def _refusal(error: urllib.error.HTTPError) -> AnswerError:
    with error:
        text = error.read().decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        return AnswerError(str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return AnswerError("http_error", f"{error.url} answered {error.code}: {text[:200]!r}")
