"""Where this product may call out to: the form of an address, and the networks it may lie in.

Only plain, unambiguous URLs are understood, so that no two readers of one can differ about its
host. An address is allowed when it is one of the public internet, or lies in a network that the
settings list; what an IPv6 address carries of an IPv4 one counts as that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from domain.errors import PermanentError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_URL: Final = 2048

_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[a-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?:\?[a-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.IGNORECASE | re.ASCII,
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE | re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}

_REFUSED: Final[tuple[tuple[str, str], ...]] = (
    ("0.0.0.0/8", "an address of this machine"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "an address shared by a provider's customers"),
    ("127.0.0.0/8", "a loopback address"),
    ("168.63.129.16/32", "a cloud's own service"),
    ("169.254.0.0/16", "a link-local address, where clouds keep credentials"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "an address for documents"),
    ("192.88.99.0/24", "a reserved address"),
    ("192.168.0.0/16", "a private address"),
    ("198.18.0.0/15", "an address for tests of networks"),
    ("198.51.100.0/24", "an address for documents"),
    ("203.0.113.0/24", "an address for documents"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    ("::/128", "an address of this machine"),
    ("::1/128", "a loopback address"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a private address"),
    ("ff00::/8", "a multicast address"),
    ("2001::/23", "a reserved address"),
    ("2001:db8::/32", "an address for documents"),
    ("3fff::/20", "an address for documents"),
)
_TABLE: Final = tuple((ip_network(text), why) for text, why in _REFUSED)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_PUBLIC6: Final = IPv6Network("2000::/3")


class EgressRefusedError(PermanentError):
    """An address that this product does not call; the message never shows more than the host."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called, once its host's addresses are allowed, too."""

    url: str
    scheme: str
    host: str
    """Lower case, an IPv6 address without brackets."""
    port: int

    @property
    def shown(self) -> str:
        """Return what may be shown of it: paths and queries of webhooks are secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _PORTS[self.scheme] == self.port
        return f"{self.scheme}://{host}" + ("" if default else f":{self.port}")


def networks_of(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read networks like 192.168.1.0/24; raises ValueError that names the one it cannot read."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise ValueError(
                f"{text!r} is no network: write 192.168.1.0/24, 10.0.0.5/32 or fd00::/8"
            ) from error
    return tuple(found)


def target_of(url: str, allowed: Sequence[Network] = ()) -> Target:
    """Return the parts of a URL that may be called.

    Raises EgressRefusedError for a form that is not understood, and for an address in its host
    that is not allowed. The message shows nothing but the host.
    """
    if len(url) > MOST_URL:
        raise EgressRefusedError(f"has more than {MOST_URL} characters")
    found = _URL.fullmatch(url)
    if found is None:
        raise EgressRefusedError(
            "is not understood: write https://host/path, with host names in ASCII and without"
            " login, fragment, space or backslash; other characters are written as %41"
        )
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if not 1 <= port <= 65_535:
        raise EgressRefusedError(f"has port {port}, which is not from 1 to 65535")
    host = found["host"].lower().strip("[]")
    literal = _literal(host, bracketed=found["host"].startswith("["))
    if literal is not None and (why := refusal(literal, allowed)):
        raise EgressRefusedError(refused(host, literal, why))
    return Target(url, scheme, host, port)


def refused(host: str, address: Address, why: str) -> str:
    """Return the words for a host whose address is not allowed."""
    named = "" if str(address) == host else f" is {address},"
    return (
        f"{host}{named or ' is'} {why}: it is not called; if it is meant, list its network in"
        f" WEBHOOK_ALLOWED_NETWORKS"
    )


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Return why an address is not called, None when it may be."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return refusal(address.ipv4_mapped, allowed)
    if any(address in network for network in allowed if network.version == address.version):
        return None
    for network, why in _TABLE:
        if network.version == address.version and address in network:
            return why
    if isinstance(address, IPv4Address):
        return None
    return _carried(address)


def _carried(address: IPv6Address) -> str | None:
    """Judge a public IPv6 address: one that stands for an IPv4 address is judged as that."""
    inner = address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        why = refusal(inner)
        return None if why is None else f"the IPv4 address {inner}, {why}"
    return None if address in _PUBLIC6 else "a reserved address"


def _literal(host: str, *, bracketed: bool) -> Address | None:
    """Return the address that a host is, None for a name; raises EgressRefusedError."""
    try:
        if bracketed:
            return IPv6Address(host)
        labels = host.removesuffix(".").split(".")
        if not all(labels):
            raise ValueError("an empty label")
        if not _NUMBER.fullmatch(labels[-1]):
            return None
        # 127.1, 2130706433, 0x7f.1, 017700000001: whoever connects takes them as addresses.
        address = ip_address(host)
    except ValueError as error:
        raise EgressRefusedError(
            f"{host} is neither a host name nor an address as it is usually written"
        ) from error
    return address
