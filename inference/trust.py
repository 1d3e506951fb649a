"""How the models' services are reached over HTTP: whose certificates count, and the login."""

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from domain.errors import PermanentError

_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


def trusted(ca_path: Path | None) -> ssl.SSLContext | None:
    """Return what an https:// server is checked against; None takes the system's authorities.

    Raises PermanentError for a file that cannot be used.
    """
    if ca_path is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_path)
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(
            f"AI_CA_PATH={ca_path} cannot be read: write the path of a PEM file with the "
            f"authority that signed the certificates of the models' services ({error})"
        ) from error


def login_of(url: str) -> tuple[str, dict[str, str]]:
    """Take the login out of a URL, as a header: no message and no log shows it then."""
    parts = urlsplit(url.rstrip("/"))
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is None:
        return bare, {}
    user, password = unquote(parts.username), unquote(parts.password or "")
    return bare, {"Authorization": aiohttp.encode_basic_auth(user, password)}


def session_of(trust: ssl.SSLContext | None, login: dict[str, str]) -> aiohttp.ClientSession:
    """Return a session whose https:// servers are checked against `trust`; in the running loop."""
    connector = None if trust is None else aiohttp.TCPConnector(ssl=trust)
    return aiohttp.ClientSession(
        connector=connector, headers=login, cookie_jar=aiohttp.DummyCookieJar()
    )


def advised(message: str) -> str:
    """Add what to do to the message of a connection that failed over its certificate."""
    if _UNTRUSTED not in message:
        return message
    return (
        f"{message}; its certificate must name this host and be signed by an authority in"
        " AI_CA_PATH (unset: by one that the system knows)"
    )
