"""The house under test: two servers, a process a role, and a supervisor that restarts the dead."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from support.servers import free_ports
from support.sink import Sink
from support.soak.detector import FakeDetector
from support.soak.disk import SmallDisk
from support.soak.plan import ROLES, Options
from support.soak.proxy import Proxy

from domain.events import CameraRegistered
from domain.ids import follow_up_id
from runtime.children import Child, Command, how_it_ended, spawn, stop, tail
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import EmbeddedError, Folders
from runtime.embedded.postgres import PostgresServer
from runtime.embedded.valkey import ValkeyServer, ask
from streams.envelope import NewEvent
from streams.log import EventLog

LOOK_SECONDS = 0.05
RESTART_SECONDS = 0.3
LONGEST_RESTART_SECONDS = 3.0
STOP_SECONDS = 20.0


@dataclass
class Process:
    """One role's process and its past."""

    name: str
    log: Path
    child: Child | None = None
    killed: bool = False
    """The driver killed the child that runs, or ran last."""
    failures: int = 0
    not_before: float = 0.0

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child and self.child.poll() is None else None


@dataclass
class House:
    """Everything that runs; `serve` keeps it up until it is cancelled."""

    folder: Path
    options: Options
    detector: FakeDetector
    sink: Sink
    disk: SmallDisk
    processes: dict[str, Process] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    unasked: Counter[str] = field(default_factory=Counter)
    """Process and how it ended, of those that ended without being killed by the driver."""
    why: list[str] = field(default_factory=list)
    """The last line that each of them wrote."""

    def __post_init__(self) -> None:
        self.cameras = self.folder / "cameras"
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        state = self.disk.root / "state"
        state.mkdir(mode=0o711)
        folders = Folders.prepare(state)
        binaries = Binaries.find(folders.state, folders.account)
        self.valkey = ValkeyServer(folders, binaries, self.options.appendfsync)
        self.postgres = PostgresServer(folders, binaries)
        self.servers: dict[str, ValkeyServer | PostgresServer] = {
            "valkey": self.valkey,
            "postgres": self.postgres,
        }
        self.proxies = {
            "valkey": Proxy(self.valkey.socket),
            "postgres": Proxy(folders.sockets / ".s.PGSQL.5432"),
        }
        self.processes = {name: Process(name, self.logs / f"{name}.log") for name in ROLES}
        self._mending: dict[str, asyncio.Task[None]] = {}
        self._environ: dict[str, str] = {}

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the servers, migrate, then start every role."""
        for server in self.servers.values():
            server.spawn()
        for server in self.servers.values():
            await asyncio.to_thread(server.wait_ready)
        for proxy in self.proxies.values():
            await proxy.open()
        self._environ = self._environment()
        migrated = await asyncio.create_subprocess_exec(*_hsi("migrate"), env=self._environ)
        assert await migrated.wait() == 0
        await self._register()
        for process in self.processes.values():
            self._spawn(process)

    async def _register(self) -> None:
        """Add every other camera as one to be told of while the detector is away."""
        log = await EventLog.open(self._environ["REDIS_URL"])
        try:
            for number in range(0, self.options.cameras, 2):
                name = f"cam{number}"
                added = CameraRegistered(
                    camera_id=name,
                    name=name,
                    folder=name,
                    source="api",
                    when_unavailable="notify",
                )
                new_id = follow_up_id(name, added.TAG)
                await log.append(NewEvent(id=new_id, event=added, correlation_id=new_id))
        finally:
            await log.close()

    def _environment(self) -> dict[str, str]:
        secret = quote(self.valkey.folders.secret())
        redis, database = self.proxies["valkey"].port, self.proxies["postgres"].port
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        return {
            **kept,
            "REDIS_URL": f"redis://:{secret}@127.0.0.1:{redis}/0",
            "DATABASE_URL": f"postgresql://hsi:{secret}@127.0.0.1:{database}/hsi",
            "RTDETR_URL": self.detector.url,
            "EMBEDDED_LLM": "off",
            "DEFAULT_WEBHOOK_URL": self.sink.url,
            "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
            "API_HOST": "127.0.0.1",
            "API_PORT": str(free_ports(1)[0]),
            "FOSCAM_BASE_PATH": str(self.cameras),
            "HSI_STATE_DIR": str(self.folder / "frames"),
            "CAMERA_TIMEZONE": "UTC",
            "DEDUPE_TTL_SECONDS": "3600",
            "BATCH_WINDOW_SECONDS": "6",
            "BATCH_IDLE_TIMEOUT_SECONDS": "2",
        }

    async def serve(self) -> None:
        """Restart whatever has ended, until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                for process in self.processes.values():
                    self._keep(process)
                for name, server in self.servers.items():
                    status = server.child.poll() if server.child else None
                    if status is not None and name not in self._mending:
                        self._note(name, status, killed=status == -signal.SIGKILL)
                        self._mending[name] = asyncio.create_task(self._mend(name))
        finally:
            for task in self._mending.values():
                task.cancel()

    def _keep(self, process: Process) -> None:
        child, now = process.child, time.monotonic()
        if child is not None:
            status = child.poll()
            if status is None:
                return
            process.child = None
            self._note(process.name, status, killed=process.killed)
            if not process.killed:
                self.why.append(f"{process.name}: {tail(process.log, 1)}")
            process.failures = 0 if process.killed else process.failures + 1
            wait = RESTART_SECONDS * 2 ** min(process.failures, 4)
            process.not_before = now + min(wait, LONGEST_RESTART_SECONDS)
        if now >= process.not_before:
            self._spawn(process)

    def _note(self, name: str, status: int, *, killed: bool) -> None:
        if not killed:
            self.unasked[f"{name} ({how_it_ended(status)})"] += 1

    def _spawn(self, process: Process) -> None:
        process.killed = False
        own = {"LOG_FILE_PATH": str(self.logs / f"{process.name}.jsonl")}
        process.child = spawn(
            Command(_hsi(*ROLES[process.name]), process.log, env={**self._environ, **own})
        )

    async def _mend(self, name: str) -> None:
        """Start a dead server again, as often as it takes."""
        server = self.servers[name]
        try:
            while True:
                await asyncio.sleep(RESTART_SECONDS)
                try:
                    server.spawn()
                    await asyncio.to_thread(server.wait_ready, 60.0)
                except (EmbeddedError, OSError):
                    # A full disk, or killed again: `unasked` has it if it was neither.
                    if server.child is not None:
                        await asyncio.to_thread(stop, server.child, ())
                    continue
                return
        finally:
            del self._mending[name]

    async def stop(self) -> list[str]:
        """End the roles in order; return what did not end as it should, then end the servers."""
        problems = []
        for process in self.processes.values():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            if process.child is None:
                continue
            status = await asyncio.to_thread(_ended, process.child)
            if status != 0:
                problems.append(f"{process.name} did not stop in order: {how_it_ended(status)}")
        await asyncio.to_thread(self.close)
        return problems

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.processes.values():
            if process.child is not None:
                stop(process.child, ())
        for server in reversed(self.servers.values()):
            server.stop()

    # --- blows ------------------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        """End a process with SIGKILL; one that is dead already is hit once it lives again."""
        while (pid := self.pid(name)) is None:  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(LOOK_SECONDS)
        if name in self.processes:
            self.processes[name].killed = True
        os.kill(pid, signal.SIGKILL)
        self.kills[name] += 1

    def pid(self, name: str) -> int | None:
        """Return a running process's id."""
        if name in self.processes:
            return self.processes[name].pid
        child = self.servers[name].child
        return child.pid if child and child.poll() is None else None

    async def pause(self, name: str, seconds: float) -> bool:
        """Stop a process for a while; False when it is not running just now."""
        pid = self.pid(name)
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if self.pid(name) == pid:
                os.kill(pid, signal.SIGCONT)
        return True

    async def fill(self, seconds: float) -> None:
        """Leave no room on the servers' disk for a while (or no memory in Valkey)."""
        if self.disk.is_real:
            await asyncio.to_thread(self.disk.fill)
            await asyncio.sleep(seconds)
            self.disk.free()
            return
        self.tell_valkey("CONFIG SET maxmemory 1")
        await asyncio.sleep(seconds)
        self.tell_valkey("CONFIG SET maxmemory 0")

    def tell_valkey(self, command: str) -> None:
        """Send one command past the proxy; a server that is away has nothing to be told."""
        login = f"AUTH {self.valkey.folders.secret()}\r\n"
        try:
            ask(str(self.valkey.socket), f"{login}{command}\r\n".encode())
        except OSError:
            return

    # --- evidence ---------------------------------------------------------------------------

    def said(self, pattern: str) -> int:
        """Return how many log records of all roles match, and how often in all."""
        wanted = re.compile(pattern)
        files = sorted(self.logs.glob("*.jsonl*"))
        return sum(len(wanted.findall(file.read_text(errors="replace"))) for file in files)

    def last_words(self) -> str:
        """Return the ends of the roles' outputs, for a run that failed."""
        return "\n".join(f"--- {p.name}\n{tail(p.log, 12)}" for p in self.processes.values())


def _ended(child: Child) -> int:
    """Wait for a child that was told to stop; a second signal would only hit its last breath."""
    try:
        return child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return stop(child, ())


def _hsi(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hsi", *arguments]
