"""Keeps secrets out of what people and log files get to see."""

import re
from urllib.parse import unquote, urlsplit

MASK = "********"

_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*):(?P<secret>[^@/\s]+)@")


def mask_urls(text: str) -> str:
    """Return `text` with the password of every URL in it replaced."""
    return _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text)


def url_password(url: str) -> str | None:
    """Return the password that a URL carries, decoded, if it carries one."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return None
    return unquote(password) if password else None


class Masker:
    """Replaces known secrets and every URL's password in a text."""

    def __init__(self, secrets: frozenset[str]) -> None:
        # A very short secret would blank out ordinary words; the longest goes first so that a
        # secret which contains another one leaves nothing behind.
        self._secrets = sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return mask_urls(text)
