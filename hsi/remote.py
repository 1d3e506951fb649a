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
from runtime.tls import client_context, tls_plan

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
        settings = load_settings()
        plan = tls_plan(settings)
        scheme = "http" if plan is None else "https"
        self.url = (url or f"{scheme}://127.0.0.1:{settings.api_port}").rstrip("/")
        self._key = settings.own_key
        self._tls = client_context(plan) if self.url.startswith("https") else None
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
        address = quote(path) + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        said = self._asked(address, method, data)
        try:
            return json.loads(said) if said else None
        except ValueError as error:
            raise self._silent(error) from error

    def fetch(self, path: str) -> bytes:
        """Return an answer as it is."""
        return self._asked(quote(path), "GET", None)

    def _asked(self, address: str, method: str, data: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["X-API-Key"] = self._key
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            f"{self.url}{address}", data=data, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=WAIT_SECONDS, context=self._tls
            ) as answer:
                said: bytes = answer.read()
                return said
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except OSError as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> HsiError:
        return HsiError(
            f"{self.url} does not answer ({error}): start it with `hsi up`, or say where the "
            "API is with --url"
        )


def _refusal(error: urllib.error.HTTPError) -> AnswerError:
    with error:
        text = error.read().decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        return AnswerError(str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return AnswerError("http_error", f"{error.url} answered {error.code}: {text[:200]!r}")
