"""Who asks: the address of a client, behind proxies that are trusted to name it."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from aiohttp import web

UNKNOWN: Final = "unknown"


class Clients:
    """Tells clients apart by their addresses."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """`trusted` are addresses or networks of proxies: what others say of whom they ask for
        is not believed."""
        self._trusted = [ip_network(text) for text in trusted]

    def address(self, request: web.Request) -> str:
        """Return the address of the last client that no trusted proxy stands for."""
        peer = _peer(request)
        if not self._trusts(peer):
            return peer
        for said in reversed(_forwarded(request)):
            if not self._trusts(said):
                return said
            peer = said
        return peer

    def is_here(self, request: web.Request) -> bool:
        """Say whether a program on this machine asks for itself, not a proxy for somebody."""
        return not _forwarded(request) and _is_loopback(_peer(request))

    def is_encrypted(self, request: web.Request) -> bool:
        """Say whether the client's own connection is TLS, as far as that can be trusted."""
        said = request.headers.get("X-Forwarded-Proto", "").lower()
        return request.secure or (said == "https" and self._trusts(_peer(request)))

    def _trusts(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return text == UNKNOWN
        return any(address in network for network in self._trusted)


def _peer(request: web.Request) -> str:
    """Return the other end of the connection; a Unix socket has no address, nor a closed one."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not isinstance(peer, tuple):
        return UNKNOWN
    return _plain(str(peer[0]))


def _forwarded(request: web.Request) -> list[str]:
    given = ",".join(request.headers.getall("X-Forwarded-For", []))
    return [_plain(part.strip()) for part in given.split(",") if part.strip()]


def _plain(text: str) -> str:
    """Return an address in one way of writing; what is none stays, cut to a length."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        # Neither Redis nor the log takes a text of bytes that are no text.
        return text[:64].encode("utf-8", "replace").decode()
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _is_loopback(text: str) -> bool:
    return text == UNKNOWN or ip_address(text).is_loopback
