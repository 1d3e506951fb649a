"""Real servers for tests: one Valkey and one PostgreSQL a session, a cluster, and private ones.

Fixtures (registered by tests/conftest.py): `state_folder`, `valkey_url`, `database_url`,
`empty_database_url`, `redis_cluster_url`, `private_valkey`, `private_postgres`. As root the
servers run as `nobody`, hence folders that this account can pass through instead of pytest's own
0700 ones.
"""

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from projections.migrate import migrate
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import EmbeddedError, Folders
from runtime.embedded.postgres import PostgresServer
from runtime.embedded.valkey import AppendFsync, ValkeyServer, ask

_CAREFREE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_ALL_SLOTS = 16_384


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that an unprivileged server may pass through; remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PrivateValkey:
    """A Valkey of one test: stop it, kill it, start it again on the same data and URL."""

    def __init__(
        self, state: Path, *, appendfsync: AppendFsync = "everysec", extra: tuple[str, ...] = ()
    ) -> None:
        folders = Folders.prepare(state)
        binaries = Binaries.find(folders.state, folders.account)
        self.server = ValkeyServer(folders, binaries, appendfsync, extra)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self.server.child is not None
        return self.server.child.pid

    def start(self) -> None:
        self.server.spawn()
        self.server.wait_ready()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        assert self.server.child is not None
        self.server.child.kill()
        self.server.child.wait()


class PrivatePostgres:
    """A PostgreSQL of one test: stop it, kill it, start it again on the same data and URL."""

    def __init__(self, state: Path) -> None:
        folders = Folders.prepare(state)
        binaries = Binaries.find(folders.state, folders.account)
        self.server = PostgresServer(folders, binaries, {"fsync": "off"})

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self.server.child is not None
        return self.server.child.pid

    def start(self) -> None:
        self.server.spawn()
        self.server.wait_ready()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; its sessions end by themselves."""
        assert self.server.child is not None
        self.server.child.kill()
        self.server.child.wait()


class ValkeyCluster:
    """Three primaries in cluster mode on loopback ports."""

    def __init__(self, folder: Path) -> None:
        self.ports = free_ports(6)
        self.nodes = [
            PrivateValkey(folder / f"node{number}", appendfsync="no", extra=self._extra(number))
            for number in range(3)
        ]

    def _extra(self, number: int) -> tuple[str, ...]:
        return (
            "bind 127.0.0.1",
            f"port {self.ports[number]}",
            f"cluster-port {self.ports[number + 3]}",
            "cluster-enabled yes",
            "cluster-node-timeout 5000",
            'requirepass ""',
            "appendonly no",
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        for node in self.nodes:
            node.server.spawn()
        for node in self.nodes:
            node.server.wait_ready()
        bounds = [_ALL_SLOTS * number // 3 for number in range(4)]
        for number in range(3):
            self.command(
                number, f"CLUSTER ADDSLOTSRANGE {bounds[number]} {bounds[number + 1] - 1}"
            )
            self.command(number, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        for number in (1, 2):
            meet = f"CLUSTER MEET 127.0.0.1 {self.ports[number]} {self.ports[number + 3]}"
            self.command(0, meet)
        wait_until(lambda: all(self._agrees(number) for number in range(3)), seconds=20)

    def _agrees(self, number: int) -> bool:
        info = self.command(number, "CLUSTER INFO", replies=12)
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info

    def command(self, number: int, text: str, *, replies: int = 1) -> bytes:
        address = ("127.0.0.1", self.ports[number])
        answer = ask(address, f"{text}\r\n".encode(), replies)
        assert not answer.startswith(b"-"), answer
        return answer

    def save(self, number: int) -> None:
        """Let a node remember what it holds now, and nothing that comes later."""
        self.command(number, "SAVE")

    def crash(self, number: int) -> None:
        """Kill a node, and start it again on what it has saved."""
        self.nodes[number].kill()
        self.nodes[number].start()
        wait_until(lambda: all(self._agrees(number) for number in range(3)), seconds=20)

    def flush(self) -> None:
        for number in range(3):
            self.command(number, "FLUSHALL SYNC")
            self.command(number, "FUNCTION FLUSH SYNC")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody uses and that the system gives to nobody by itself.

    Each worker of pytest-xdist has a range of its own, below those of port 0 and of connections,
    so that none is taken before whoever asked for it comes to use it.
    """
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", next(_ports)))
                ports.append(int(listener.getsockname()[1]))
        return ports


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MOST_WORKERS
    size = (_LAST_PORT - _FIRST_PORT) // _MOST_WORKERS
    first, start = _FIRST_PORT + worker * size, os.getpid() % size
    return itertools.cycle([first + (start + number) % size for number in range(size)])


_FIRST_PORT, _LAST_PORT, _MOST_WORKERS = 12_000, 32_000, 10
_ports = _own_ports()


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Return as soon as the condition holds; fail the test when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not so within {seconds} s")
        time.sleep(0.01)


def _flush(server: ValkeyServer) -> None:
    login = f"AUTH {server.folders.secret()}\r\n"
    request = f"{login}FLUSHALL SYNC\r\nFUNCTION FLUSH SYNC\r\n".encode()
    answer = ask(str(server.socket), request, replies=3)
    assert answer == b"+OK\r\n" * 3, answer


@pytest.fixture
def state_folder() -> Iterator[Path]:
    """Give an empty folder whose embedded servers any account can reach."""
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def session_valkey() -> Iterator[PrivateValkey]:
    """Give the session's Valkey; tests take `valkey_url`."""
    with temporary_folder() as folder:
        valkey = PrivateValkey(folder, appendfsync="no", extra=("appendonly no",))
        try:
            valkey.start()
            yield valkey
        finally:
            valkey.stop()


@pytest.fixture
def valkey_url(session_valkey: PrivateValkey) -> str:
    """Give the URL of an empty Valkey."""
    _flush(session_valkey.server)
    return session_valkey.url


@pytest.fixture(scope="session")
def session_postgres() -> Iterator[PostgresServer]:
    """Give the session's PostgreSQL; tests take `database_url`."""
    with temporary_folder() as folder:
        folders = Folders.prepare(folder)
        binaries = Binaries.find(folders.state, folders.account)
        server = PostgresServer(folders, binaries, _CAREFREE)
        try:
            server.spawn()
            server.wait_ready()
            yield server
        finally:
            server.stop()


_numbers = itertools.count(1)


@contextlib.contextmanager
def _database(server: PostgresServer, template: str) -> Iterator[str]:
    """Make a database out of a template, give its URL, and drop it at the end."""
    name = f"test_{next(_numbers)}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
    yield server.url.replace("/hsi?", f"/{name}?")
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def migrated_template(session_postgres: PostgresServer) -> str:
    """Give the name of a migrated database to copy: a copy takes a tenth of a migration."""
    name = "migrated"
    with psycopg.connect(session_postgres.url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        )
    migrate(session_postgres.url.replace("/hsi?", f"/{name}?"))
    return name


@pytest.fixture
def database_url(session_postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give the URL of a database of its own, migrated and without a row."""
    with _database(session_postgres, migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(session_postgres: PostgresServer) -> Iterator[str]:
    """Give the URL of a database of its own, without a table."""
    with _database(session_postgres, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ValkeyCluster]:
    """Give the session's cluster of three primaries; tests take `redis_cluster_url`."""
    with temporary_folder() as folder:
        cluster = _started_cluster(folder)
        yield cluster
        cluster.stop()


def _started_cluster(folder: Path) -> ValkeyCluster:
    """Start a cluster; another program may have taken a port meanwhile, so try again."""
    for attempt in itertools.count(1):
        cluster = ValkeyCluster(folder / str(attempt))
        try:
            cluster.start()
        except EmbeddedError:
            cluster.stop()
            if attempt == 3:
                raise
        else:
            return cluster
    raise AssertionError


@pytest.fixture
def redis_cluster_url(redis_cluster: ValkeyCluster) -> str:
    """Give the URL of an empty cluster (of one of its nodes)."""
    redis_cluster.flush()
    return redis_cluster.url


@pytest.fixture
def private_valkey(state_folder: Path) -> Iterator[PrivateValkey]:
    """Give a running Valkey that this test may kill."""
    valkey = PrivateValkey(state_folder)
    valkey.start()
    yield valkey
    valkey.stop()


@pytest.fixture
def private_postgres(state_folder: Path) -> Iterator[PrivatePostgres]:
    """Give a running PostgreSQL that this test may kill."""
    postgres = PrivatePostgres(state_folder)
    postgres.start()
    yield postgres
    postgres.stop()
