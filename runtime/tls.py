"""TLS: what the settings mean, the server's context, a certificate of one's own, renewal.

A context that is in use takes a new certificate with `load_cert_chain`: new connections get the
new one, those that are open (WebSockets) go on.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from domain.errors import HsiError

if TYPE_CHECKING:
    from cryptography import x509

    from runtime.sections.tls import Tls

logger = logging.getLogger(__name__)

VALID_DAYS: Final = 397
"""The longest that browsers accept."""

RENEW_DAYS: Final = 30
"""A certificate of our own is made anew so long before it ends."""

LOOK_SECONDS: Final = 60.0
"""How often the files are looked at for a renewed certificate."""

LEGACY: Final = {
    "tls_enabled": "TLS_MODE=provided",
    "tls_auto_generate": "TLS_MODE=self_signed",
    "tls_cert_file": "TLS_CERT_PATH",
    "tls_key_file": "TLS_KEY_PATH",
    "tls_ca_file": "TLS_CA_PATH",
}
"""Earlier names of settings, and what replaces each."""

_MODERN: Final = {
    "tls_enabled": "tls_mode",
    "tls_auto_generate": "tls_mode",
    "tls_cert_file": "tls_cert_path",
    "tls_key_file": "tls_key_path",
    "tls_ca_file": "tls_ca_path",
}

_VERSIONS: Final = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsError(HsiError):
    """TLS cannot be used as it is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPlan:
    """How the API's port speaks TLS."""

    mode: Literal["self_signed", "provided"]
    certificate: Path
    key: Path
    authority: Path | None
    """Of the clients' certificates; None asks for none."""
    min_version: str


def tls_plan(settings: "Tls") -> TlsPlan | None:
    """Return what the settings mean, by their names of today or the earlier ones; None: no TLS.

    Raises TlsError for what is missing.
    """
    mode = _mode(settings)
    if mode == "disabled":
        return None
    authority = settings.tls_ca_path or settings.tls_ca_file
    if settings.tls_verify_client and authority is None:
        raise TlsError("TLS_VERIFY_CLIENT=true needs TLS_CA_PATH: whose certificates count")
    asked = authority if settings.tls_verify_client else None
    if mode == "self_signed":
        folder = settings.tls_cert_dir.absolute()
        certificate, key = folder / "server.crt", folder / "server.key"
    else:
        certificate, key = _provided(settings)
    return TlsPlan(
        mode=mode,
        certificate=certificate,
        key=key,
        authority=asked,
        min_version=settings.tls_min_version,
    )


def _mode(settings: "Tls") -> Literal["disabled", "self_signed", "provided"]:
    if "tls_mode" in settings.model_fields_set:
        return settings.tls_mode
    off = "tls_enabled" in settings.model_fields_set and not settings.tls_enabled
    if off or not (settings.tls_enabled or settings.tls_auto_generate):
        return "disabled"
    given = settings.tls_cert_path or settings.tls_cert_file
    return "self_signed" if settings.tls_auto_generate and given is None else "provided"


def _provided(settings: "Tls") -> tuple[Path, Path]:
    certificate = settings.tls_cert_path or settings.tls_cert_file
    key = settings.tls_key_path or settings.tls_key_file
    if certificate is None or key is None:
        raise TlsError("TLS_MODE=provided needs TLS_CERT_PATH and TLS_KEY_PATH (PEM files)")
    return certificate.absolute(), key.absolute()


def tls_warnings(settings: "Tls") -> list[str]:
    """Return a line for every earlier name in use, and who wins where both names are given."""
    lines = []
    for field in sorted(LEGACY.keys() & settings.model_fields_set):
        name, modern = field.upper(), LEGACY[field]
        line = f"{name} is deprecated: write {modern} instead"
        if _MODERN[field] in settings.model_fields_set:
            line += f"; {_MODERN[field].upper()} is given as well, and wins"
        lines.append(line)
    return lines


# --- contexts -----------------------------------------------------------------------------------


def server_context(plan: TlsPlan) -> ssl.SSLContext:
    """Return the context of the server's port; raises TlsError that names the file at fault."""
    if plan.mode == "self_signed":
        keep_own(plan.certificate, plan.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[plan.min_version]
    load(context, plan)
    if plan.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(plan.authority)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"TLS_CA_PATH={plan.authority} cannot be used: {error}") from error
    return context


def load(context: ssl.SSLContext, plan: TlsPlan) -> None:
    """Let a context show the certificate that the files hold now."""
    try:
        # A pair that does not fit would leave a context in use without a key: tried apart first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(plan.certificate, plan.key)
        context.load_cert_chain(plan.certificate, plan.key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"the certificate {plan.certificate} with the key {plan.key} cannot be used"
            f" ({error}): both must be PEM files that belong together"
        ) from error


def client_context(plan: TlsPlan | None) -> ssl.SSLContext:
    """Return how this installation's own commands check the server: also by its own
    certificate."""
    context = ssl.create_default_context()
    if plan is not None and plan.certificate.exists():
        context.load_verify_locations(plan.certificate)
    return context


async def keep_renewed(context: ssl.SSLContext, plan: TlsPlan, stop: asyncio.Event) -> None:
    """Take over a renewed certificate whenever its files change, until `stop` is set.

    Files that cannot be used are told of; what was loaded goes on."""
    seen = _stamp(plan)
    while not await _stopped(stop):
        try:
            if plan.mode == "self_signed":
                await asyncio.to_thread(keep_own, plan.certificate, plan.key)
            if (now := _stamp(plan)) == seen:
                continue
            seen = now
            load(context, plan)
        except TlsError as error:
            logger.error("the certificate in use stays: %s", error)
        else:
            logger.info("new connections get the renewed certificate %s", plan.certificate)


async def _stopped(stop: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _stamp(plan: TlsPlan) -> Sequence[tuple[int, int] | None]:
    return [_stamp_of(path) for path in (plan.certificate, plan.key)]


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


# --- a certificate of one's own -----------------------------------------------------------------


def keep_own(
    certificate: Path, key: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> bool:
    """Make a certificate of our own unless there is one that still lasts; say whether it did."""
    # Imported here: without TLS nobody pays for it.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        lasts = known.not_valid_after_utc - now() > timedelta(days=RENEW_DAYS)
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        # A start that was killed in between has left a new key beside the old certificate.
        if lasts and private.public_key() == known.public_key():
            return False
    except (OSError, ValueError):
        logger.info("a certificate of this server's own is made: %s", certificate)
    try:
        certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_own(certificate, key, now())
    except OSError as error:
        raise TlsError(
            f"TLS_CERT_DIR={certificate.parent} cannot be written ({error.strerror}): choose"
            " another folder"
        ) from error
    return True


def _make_own(certificate: Path, key: Path, now: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Home Security Intelligence")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    text = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key, text, 0o600)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _names() -> "list[x509.GeneralName]":
    """Return every name under which this machine may be asked for."""
    from cryptography import x509

    host = socket.gethostname()
    names = dict.fromkeys(["localhost", host, socket.getfqdn()])
    return [
        *(x509.DNSName(name) for name in names if _is_name(name)),
        *(x509.IPAddress(address) for address in _addresses(host)),
    ]


def _is_name(name: str) -> bool:
    return bool(name) and name.isascii() and not name.endswith(".arpa")


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    found = dict.fromkeys([ip_address("127.0.0.1"), ip_address("::1")])
    try:
        for *_, place in socket.getaddrinfo(host, None):
            found[ip_address(str(place[0]).partition("%")[0])] = None
    except OSError:
        logger.info("the certificate lacks this machine's addresses: %s is not resolved", host)
    return list(found)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all, never readable by others in between."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
