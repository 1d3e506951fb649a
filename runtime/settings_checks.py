"""Checks of single settings that a type and a range cannot say; ValueError tells what is wrong."""

import os
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_POSTGRESQL_SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+asyncpg",
    "postgresql+psycopg",
)


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError("must begin with " + " or ".join(f"{scheme}://" for scheme in schemes))
    # Reading the port is what checks it: urlsplit raises ValueError on one that is no number.
    if parts.port is not None and parts.port == 0:
        raise ValueError("has port 0, which nothing listens on")
    return parts


def check_http_url(url: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """Accept a URL with one of the schemes and a host; a closing slash is dropped."""
    if not _split(url, schemes).hostname:
        raise ValueError(f"names no host: write {schemes[0]}://host:port")
    return url.rstrip("/")


def check_rtdetr_url(url: str) -> str:
    """Accept a /detect service (http, https) or a Triton server (grpc, grpcs)."""
    if url.startswith("grpc") and "@" in urlsplit(url).netloc:
        raise ValueError("carries a login, which Triton does not take: write grpc://host:8001")
    return check_http_url(url, ("http", "https", "grpc", "grpcs"))


def check_one_login(url: str | None, key: object) -> None:
    """Refuse an API key beside a login in the URL: both would be the same header."""
    if url and key and "@" in urlsplit(url).netloc:
        raise ValueError("is given and the URL carries a login: a server takes one of them")


def check_redis_url(url: str) -> str:
    """Accept a Redis server by TCP, TLS or Unix socket."""
    parts = _split(url, ("redis", "rediss", "unix"))
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("names no server: write redis://host:port/0 or unix:///path/to/socket")
    return url


def with_authority(url: str, authority: Path | None) -> str:
    """Return a Redis URL whose server is checked by the authority in a file."""
    if authority is None or "ssl_ca_certs=" in url:
        return url
    if not url.startswith("rediss://"):
        raise ValueError(
            "is no rediss:// URL, and REDIS_CA_PATH is given: encrypt it, or unset it"
        )
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query), ("ssl_ca_certs", str(authority.absolute()))]
    return urlunsplit(parts._replace(query=urlencode(query)))


def verifying(url: str, authority: Path | None) -> str:
    """Return a libpq URL whose server must show a certificate by the authority in a file."""
    if authority is None:
        return url
    parts = urlsplit(url)
    query = {"sslmode": "verify-full", **dict(parse_qsl(parts.query))}
    query["sslrootcert"] = str(authority.absolute())
    return urlunsplit(parts._replace(query=urlencode(query)))


def check_database_url(url: str) -> str:
    """Accept PostgreSQL under the names other drivers give it; explain why SQLite is refused."""
    if urlsplit(url).scheme.startswith("sqlite"):
        raise ValueError(
            "SQLite is not supported, read models need PostgreSQL: write"
            " postgresql://user:password@host:5432/database, or leave it unset for the embedded"
            " PostgreSQL"
        )
    parts = _split(url, _POSTGRESQL_SCHEMES)
    if not parts.path.strip("/"):
        raise ValueError("names no database: write postgresql://user:password@host:5432/database")
    return url


def libpq_url(url: str) -> str:
    """Return a PostgreSQL URL as libpq takes it: its scheme, and asyncpg's `ssl` as `sslmode`."""
    parts = urlsplit(url)
    query = [("sslmode" if key == "ssl" else key, value) for key, value in parse_qsl(parts.query)]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))


def with_password(url: str, password: str) -> str:
    """Return a URL with a password, unless it carries one or names nobody whose it could be."""
    parts = urlsplit(url)
    if parts.password or not parts.username:
        return url
    user, _, host = parts.netloc.rpartition("@")
    secret = quote(password, safe="")
    return urlunsplit(parts._replace(netloc=f"{user.rstrip(':')}:{secret}@{host}"))


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Accept origins as browsers send them: scheme, host and port, nothing after."""
    for origin in origins:
        parts = urlsplit(origin)
        whole = f"{parts.scheme}://{parts.netloc}"
        if origin != "*" and (parts.scheme not in ("http", "https") or origin != whole):
            raise ValueError(f"{origin!r} is not an origin: write http://host:port without a path")
    return origins


def check_timezone(name: str) -> str:
    """Accept the name of a zone in the IANA database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            "is not an IANA time zone: write one like Europe/Berlin or UTC"
        ) from error
    return name


def system_timezone() -> str:
    """Return this machine's IANA zone: TZ, else what /etc/localtime points at, else UTC."""
    link = os.path.realpath("/etc/localtime")
    candidates = [os.environ.get("TZ", ""), link.partition("/zoneinfo/")[2]]
    etc_timezone = Path("/etc/timezone")
    if etc_timezone.is_file():
        candidates.append(etc_timezone.read_text(encoding="ascii", errors="ignore").strip())
    for name in candidates:
        try:
            return check_timezone(name) if name else _none()
        except ValueError:
            continue
    return "UTC"


def _none() -> str:
    raise ValueError("no zone named")


def plain_http_warning(name: str, url: str) -> str | None:
    """Return a warning when pictures or answers would cross a network unencrypted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in ("https", "grpcs") or _is_near(host):
        return None
    return (
        f"{name}: {parts.scheme}:// to {host} is not encrypted: use TLS outside a trusted network"
    )


def _is_near(host: str) -> bool:
    """Tell whether a host is this machine or a container's name (a name without a dot)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return "." not in host or host.endswith(".localhost") or host.endswith(".internal")
