"""Both embedded servers of one state folder, under one lock."""

from pathlib import Path
from typing import Self

from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import Folders, StateLock
from runtime.embedded.postgres import PostgresServer
from runtime.embedded.valkey import AppendFsync, ValkeyServer


class EmbeddedServers:
    """The servers that were asked for; they end with us, whatever happens to us."""

    def __init__(
        self,
        lock: StateLock,
        folders: Folders,
        valkey: ValkeyServer | None,
        postgres: PostgresServer | None,
    ) -> None:
        self._lock = lock
        self.folders = folders
        self._valkey = valkey
        self._postgres = postgres

    @classmethod
    def start(
        cls,
        state: Path,
        *,
        appendfsync: AppendFsync = "everysec",
        want_redis: bool = True,
        want_postgres: bool = True,
    ) -> Self:
        """Start the servers and return when they answer; call it from the main thread.

        1. prepare the state folder and its account, 2. take the lock, 3. find the binaries,
        4. start both processes, 5. wait for both. Raises EmbeddedError, leaving nothing behind.
        """
        folders = Folders.prepare(state, for_servers=want_redis or want_postgres)
        lock = StateLock.take(folders.state)
        servers: Self | None = None
        try:
            binaries = Binaries.find(folders.state, folders.account)
            servers = cls(
                lock,
                folders,
                ValkeyServer(folders, binaries, appendfsync) if want_redis else None,
                PostgresServer(folders, binaries) if want_postgres else None,
            )
            for server in servers._all():
                server.spawn()
            for server in servers._all():
                server.wait_ready()
        except BaseException:
            if servers is not None:
                servers.stop()
            lock.release()
            raise
        return servers

    def _all(self) -> list[ValkeyServer | PostgresServer]:
        return [server for server in (self._valkey, self._postgres) if server is not None]

    def _named(self, name: str) -> ValkeyServer | PostgresServer:
        return next(server for server in self._all() if server.name == name)

    @property
    def redis_url(self) -> str | None:
        """Where the embedded Valkey is, None when it was not asked for."""
        return self._valkey.url if self._valkey else None

    @property
    def database_url(self) -> str | None:
        """Where the embedded PostgreSQL is (libpq URL), None when it was not asked for."""
        return self._postgres.url if self._postgres else None

    @property
    def pids(self) -> dict[str, int]:
        """The servers' process ids by name (`valkey`, `postgres`)."""
        return {server.name: server.child.pid for server in self._all() if server.child}

    def dead(self) -> dict[str, int]:
        """Return the servers that ended unasked, with their exit status."""
        ended = {}
        for server in self._all():
            status = server.child.poll() if server.child else None
            if status is not None:
                ended[server.name] = status
        return ended

    def log_of(self, name: str) -> Path:
        """Return where a server writes."""
        return self._named(name).log

    def respawn(self, name: str) -> None:
        """Start a dead server again, from the main thread; then `wait_ready`."""
        self._named(name).spawn()

    def wait_ready(self, name: str) -> None:
        """Wait until a server answers; any thread."""
        self._named(name).wait_ready()

    def stop(self) -> None:
        """End PostgreSQL, then Valkey, then let go of the state folder."""
        for server in reversed(self._all()):
            server.stop()
        self.folders.discard_sockets()
        self._lock.release()
