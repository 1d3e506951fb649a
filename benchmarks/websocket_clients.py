"""Many WebSocket clients in one process, as lean as they can be: they count octets and take times.

Every client gets the same octets, so only the first one's are kept and read; what another client
got by when follows from how many it had. `python -m benchmarks.websocket_clients PORT COUNT STUCK
FILE` says `ready` when all are connected and writes what was received to FILE when told `stop`.
"""

import contextlib
import select
import socket
import sys
import time
import zlib
from array import array
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PATH = "/ws/events"
HEAD_END = b"\r\n\r\n"
PING = b"\x89\x00"
PONG = b"\x8a\x80" + bytes(4)
READ_BYTES = 262_144
STUCK_BUFFER = 4096
QUIET_SECONDS = 1.0
KEY = b64encode(bytes(16)).decode()


@dataclass
class Reader:
    """One client that reads."""

    connection: socket.socket
    received: int = 0
    checksum: int = 0
    times: "array[int]" = field(default_factory=lambda: array("q"))
    """When something came (monotonic, ns) …"""
    totals: "array[int]" = field(default_factory=lambda: array("q"))
    """… and how much had come by then."""


def connect(port: int, *, buffer: int | None = None) -> socket.socket:
    """Connect and shake hands; the server's hello is still to be read."""
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(handshake())
    return connection


def handshake() -> bytes:
    """Return the request for a WebSocket."""
    return (
        f"GET {PATH} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    ).encode()


def greeted(connection: socket.socket) -> None:
    """Read the answer and the hello, which is all that comes before the first message."""
    got = b""
    while True:
        more = connection.recv(READ_BYTES)
        if not more:
            raise ConnectionError(f"refused: {got[:200]!r}")
        got += more
        head, _, rest = got.partition(HEAD_END)
        if rest and not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"refused: {head[:200]!r}")
        if any(end == len(rest) for end, _ in frames(rest)):
            return


def frames(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the end and the payload of each whole frame."""
    at = 0
    while at + 2 <= len(octets):
        size, start = octets[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(octets[start : start + width], "big"), start + width
        if start + size > len(octets):
            return
        at = start + size
        yield at, octets[start:at]


def read(readers: list[Reader]) -> bytes:
    """Read until told to stop and nothing more comes; return what the first client got."""
    first = bytearray()
    by_number = {reader.connection.fileno(): reader for reader in readers}
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    for number, reader in by_number.items():
        reader.connection.setblocking(False)
        poll.register(number, select.EPOLLIN)
    print("ready", flush=True)
    told_to_stop = False
    while (ready := poll.poll(QUIET_SECONDS, 4096)) or not told_to_stop:
        for number, _ in ready:
            if number == sys.stdin.fileno():
                told_to_stop = True
                poll.unregister(number)
                continue
            reader = by_number[number]
            octets = reader.connection.recv(READ_BYTES)
            if not octets:
                raise ConnectionError("a client that reads was cut off")
            if PING in octets:  # JSON has no such octets, so this is no part of a message
                octets = octets.replace(PING, b"")
                reader.connection.send(PONG)
            reader.received += len(octets)
            reader.checksum = zlib.crc32(octets, reader.checksum)
            reader.times.append(time.monotonic_ns())
            reader.totals.append(reader.received)
            if reader is readers[0]:
                first += octets
    return bytes(first)


def main() -> None:
    """Be the clients."""
    port, clients, stuck = (int(text) for text in sys.argv[1:4])
    connections = [connect(port) for _ in range(clients)]
    stalled = [connect(port, buffer=STUCK_BUFFER) for _ in range(stuck)]
    for connection in connections:
        greeted(connection)
    readers = [Reader(connection) for connection in connections]
    first = read(readers)
    np.savez(
        Path(sys.argv[4]),
        first=np.frombuffer(first, np.uint8),
        checksums=np.array([reader.checksum for reader in readers]),
        lengths=np.array([len(reader.times) for reader in readers]),
        times=_joined([reader.times for reader in readers]),
        totals=_joined([reader.totals for reader in readers]),
    )
    for connection in (*connections, *stalled):
        with contextlib.suppress(OSError):
            connection.close()


def _joined(columns: "list[array[int]]") -> NDArray[np.int64]:
    return np.concatenate([np.frombuffer(column, np.int64) for column in columns])


if __name__ == "__main__":
    main()
