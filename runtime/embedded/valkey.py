"""The embedded Valkey: a direct child on a Unix socket, append-only file on, nothing evicted."""

import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from runtime.children import Child, Command, how_it_ended, spawn, stop, tail
from runtime.deadline import Deadline
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import EmbeddedError, Folders
from runtime.embedded.orphans import clear_out

AppendFsync = Literal["always", "everysec", "no"]
_START_SECONDS: Final = 120.0
"""A long append-only file is read before the first answer."""
_STOP: Final = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))


@dataclass(slots=True)
class ValkeyServer:
    """One Valkey over one data folder; may be started again after it ended."""

    folders: Folders
    binaries: Binaries
    appendfsync: AppendFsync = "everysec"
    extra: tuple[str, ...] = ()
    """More lines of configuration."""
    name: str = field(default="valkey", init=False)
    child: Child | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folders.sockets / "valkey.sock"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folders.logs / "valkey.log"

    @property
    def url(self) -> str:
        """Where clients find it, with the password."""
        return f"unix://:{self.folders.secret()}@{quote(str(self.socket))}"

    def spawn(self) -> None:
        """Start the process from the main thread; does not wait for its answer."""
        clear_out(self.folders.valkey, "valkey-server")
        self.socket.unlink(missing_ok=True)
        self.child = spawn(
            Command(
                argv=[str(self.binaries.valkey_server), "-"],
                log=self.log,
                death_signal=signal.SIGTERM,
                cwd=self.folders.valkey,
                account=self.folders.account,
                umask=0o077,
                # The password goes through a pipe: a command line is readable by everyone.
                stdin="\n".join(self._configuration()).encode(),
            )
        )

    def _configuration(self) -> list[str]:
        return [
            f"dir {_quoted(self.folders.valkey)}",
            "port 0",
            f"unixsocket {_quoted(self.socket)}",
            "unixsocketperm 700",
            f"requirepass {self.folders.secret()}",
            "appendonly yes",
            f"appendfsync {self.appendfsync}",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
            "always-show-logo no",
            "set-proc-title no",
            *self.extra,
            "",
        ]

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Return once it answers; raises EmbeddedError when it ended or takes too long."""
        deadline = Deadline(seconds)
        while not self._answers():
            status = self.child.poll() if self.child else 0
            if status is not None or deadline.passed:
                why = "no answer in time" if status is None else how_it_ended(status)
                msg = f"Valkey did not start ({why}); end of {self.log}:\n{tail(self.log)}"
                raise EmbeddedError(msg)
            time.sleep(0.005)

    def _answers(self) -> bool:
        request = f"AUTH {self.folders.secret()}\r\nPING\r\n".encode()
        try:
            return ask(str(self.socket), request).endswith(b"+PONG\r\n")
        except OSError:
            return False

    def stop(self) -> None:
        """End it in order; its append-only file is flushed first."""
        if self.child is not None:
            stop(self.child, _STOP)
        self.socket.unlink(missing_ok=True)


def ask(address: str | tuple[str, int], request: bytes, replies: int = 2) -> bytes:
    """Send inline commands and return as many reply lines; raises OSError when nobody listens."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(5.0)
        connection.connect(address)
        connection.sendall(request)
        answer = b""
        while answer.count(b"\r\n") < replies:
            part = connection.recv(4096)
            if not part:
                break
            answer += part
        return answer


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
