"""The embedded PostgreSQL: a direct child on a Unix socket, scram passwords, builtin C.UTF-8."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from runtime.children import Child, Command, how_it_ended, spawn, stop, tail
from runtime.deadline import Deadline
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import LONGEST_SOCKET_NAME, EmbeddedError, Folders
from runtime.embedded.orphans import clear_out

USER: Final = "hsi"
DATABASE: Final = "hsi"
_START_SECONDS: Final = 120.0
"""After a crash the write-ahead log is replayed before the first answer."""
_INITDB_SECONDS: Final = 120.0
_STOP: Final = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "jit": "off",
    # One house, few clients: no helper processes that only cost memory.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "log_line_prefix": "%m [%p] ",
}
_CREATE_DATABASE: Final = (
    f"SELECT 'CREATE DATABASE {DATABASE}' WHERE NOT EXISTS "  # noqa: S608 - two constants
    f"(SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec\n"
)


@dataclass(slots=True)
class PostgresServer:
    """One PostgreSQL over one pgdata; may be started again after it ended."""

    folders: Folders
    binaries: Binaries
    settings: dict[str, str] = field(default_factory=dict)
    """More settings of the server, by name."""
    name: str = field(default="postgres", init=False)
    child: Child | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folders.logs / "postgres.log"

    @property
    def url(self) -> str:
        """Where clients find it (libpq), with the password."""
        host = quote(str(self.folders.sockets), safe="")
        return f"postgresql://{USER}:{self.folders.secret()}@/{DATABASE}?host={host}"

    def spawn(self) -> None:
        """Start the process from the main thread; the very first time make pgdata before."""
        clear_out(self.folders.postgres, "postgres")
        if not (self.folders.postgres / "PG_VERSION").exists():
            self._initialise()
        self._remove_locks()
        self.child = spawn(self._command(self._server_argv()))

    def _command(self, argv: list[str], stdin: bytes = b"") -> Command:
        return Command(
            argv=argv,
            log=self.log,
            death_signal=signal.SIGINT,
            env=_environment(),
            cwd=self.folders.sockets,
            account=self.folders.account,
            umask=0o077,
            stdin=stdin,
        )

    def _server_argv(self) -> list[str]:
        settings = {
            **_SETTINGS,
            "unix_socket_directories": _list_item(self.folders.sockets),
            **self.settings,
        }
        argv = [str(self.binaries.postgres_bin / "postgres"), "-D", str(self.folders.postgres)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return argv

    def _initialise(self) -> None:
        """Make pgdata beside its place and move it there when it is complete."""
        fresh = self.folders.postgres.with_name("postgres.new")
        clear_out(fresh, "postgres")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self.folders.give(fresh)
        password = self.folders.sockets / "password"
        password.unlink(missing_ok=True)
        password.touch(0o600)
        password.write_text(self.folders.secret())
        self.folders.give(password)
        try:
            self._run_initdb(fresh, password)
        finally:
            password.unlink(missing_ok=True)
        if self.folders.postgres.exists():
            self.folders.postgres.rmdir()  # only ever an empty folder: it has no PG_VERSION
        fresh.rename(self.folders.postgres)

    def _run_initdb(self, fresh: Path, password: Path) -> None:
        argv = [str(self.binaries.postgres_bin / "initdb"), "-D", str(fresh)]
        argv += ["--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256"]
        argv += ["--encoding", "UTF8", "--locale-provider", "builtin"]
        argv += ["--builtin-locale", "C.UTF-8", "--locale", "C"]
        if self.settings.get("fsync") == "off":
            argv.append("--no-sync")
        child = spawn(self._command(argv))
        try:
            status = child.wait(_INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            status = stop(child, ())
        if status != 0:
            msg = (
                f"PostgreSQL's data folder could not be made ({how_it_ended(status)}); "
                f"end of {self.log}:\n{tail(self.log)}"
            )
            raise EmbeddedError(msg)

    def _remove_locks(self) -> None:
        """Remove lock files of a server that died; safe since no process works in pgdata.

        PostgreSQL itself would believe a reused pid, and a zombie, to be the old server.
        """
        (self.folders.postgres / "postmaster.pid").unlink(missing_ok=True)
        for suffix in ("", ".lock"):
            (self.folders.sockets / f"{LONGEST_SOCKET_NAME}{suffix}").unlink(missing_ok=True)

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Return once a client can log in; raises EmbeddedError when it ended or is too slow."""
        deadline = Deadline(seconds)
        while not self._says_ready():
            status = self.child.poll() if self.child else 0
            if status is not None or deadline.passed:
                why = "no answer in time" if status is None else how_it_ended(status)
                msg = f"PostgreSQL did not start ({why}); end of {self.log}:\n{tail(self.log)}"
                raise EmbeddedError(msg)
            time.sleep(0.01)
        self._log_in(max(deadline.remaining, 5.0))

    def _says_ready(self) -> bool:
        """Read the state that the server keeps in its pid file, as pg_ctl does."""
        try:
            lines = (self.folders.postgres / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ours = self.child is not None and lines[:1] == [str(self.child.pid)]
        return ours and len(lines) >= 8 and lines[7].strip() == "ready"

    def _log_in(self, seconds: float) -> None:
        """Log in with our password and make our database if it is not there yet."""
        account = self.folders.account
        argv = [str(self.binaries.postgres_bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        result = subprocess.run(  # noqa: S603 - our own binary
            [*argv, "-f", "-"],
            input=_CREATE_DATABASE.encode(),
            capture_output=True,
            env={
                **_environment(),
                "PGHOST": str(self.folders.sockets),
                "PGUSER": USER,
                "PGPASSWORD": self.folders.secret(),
                "PGDATABASE": "postgres",
            },
            cwd=self.folders.sockets,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            timeout=seconds,
            check=False,
        )
        if result.returncode != 0:
            said = result.stderr.decode("utf-8", "replace").strip()
            msg = (
                f"PostgreSQL runs but does not let us in: {said}. Its password is kept in "
                f"{self.folders.state / 'secret'}: put back the file that belongs to "
                f"{self.folders.postgres}"
            )
            raise EmbeddedError(msg)

    def stop(self) -> None:
        """End it in order: sessions are cut, everything is written (fast shutdown)."""
        if self.child is not None:
            stop(self.child, _STOP)


def _environment() -> dict[str, str]:
    """Return our environment without what would redirect the programs to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _list_item(path: Path) -> str:
    """Quote a path for a comma-separated list setting."""
    return '"' + str(path).replace('"', '""') + '"'
