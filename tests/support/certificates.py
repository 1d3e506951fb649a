"""Certificates of a test, and a front that puts TLS before a server that speaks none."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""How PostgreSQL's protocol asks for TLS before anything else."""


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that is its own authority; return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


def server_side(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """Return the context of a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return context


@contextlib.asynccontextmanager
async def tls_front(
    context: ssl.SSLContext | None, socket_path: Path, *, postgres: bool = False
) -> AsyncIterator[int]:
    """Listen with TLS on 127.0.0.1 before the server at a Unix socket; give the port.

    The servers of the wheels are built without TLS. `postgres` first answers its own request for
    TLS; with `context` None it answers that there is none.
    """
    serving: list[asyncio.Task[None]] = []

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not postgres or await _asks_for_tls(reader, writer, context):
                await _between(reader, writer, socket_path)
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            pass  # who does not trust us ends it so
        finally:
            writer.close()
            writer.transport.abort()

    at_once = None if postgres else context
    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=at_once)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while serving:  # one that was just accepted may come meanwhile
            ended, serving[:] = list(serving), []
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
            # An aborted transport lets go of its socket at the next turn of the loop.
            await asyncio.sleep(0)


async def _asks_for_tls(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext | None
) -> bool:
    """Answer the request of PostgreSQL's protocol; return whether the connection is encrypted."""
    assert await reader.readexactly(8) == _SSL_REQUEST
    if context is None:
        writer.write(b"N")
        await writer.drain()
        return False
    # What the client says next is for TLS, not for this reader.
    assert isinstance(writer.transport, asyncio.ReadTransport)
    writer.transport.pause_reading()
    writer.write(b"S")
    await writer.start_tls(context)
    return True


async def _between(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket_path: Path
) -> None:
    behind_reader, behind_writer = await asyncio.open_unix_connection(str(socket_path))
    ways = (_copy(reader, behind_writer), _copy(behind_reader, writer))
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Before anything is awaited: whoever ends the front may cancel this, too.
        behind_writer.close()
        behind_writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
