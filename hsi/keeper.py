"""Keeps one process running: starts it, sees it ready, starts it again, stops it in order."""

import asyncio
import signal
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from hsi.plan import Role
from runtime.children import Child, ChildError, Command, how_it_ended, spawn, tail
from runtime.heartbeat import VARIABLE, Pulse
from runtime.tasks import end, is_set_within

FIRST_DELAY_SECONDS: Final = 5.0
LONGEST_DELAY_SECONDS: Final = 300.0
MOST_RESTARTS: Final = 5
"""A process that people can enable again is given up after so many restarts on end."""
PROVEN_SECONDS: Final = 60.0
"""A process that ran so long before it died is started again at once."""
LOOK_SECONDS: Final = 0.05
KILL_SECONDS: Final = 5.0
HEALTH_SECONDS: Final = 15.0
"""Between looks whether a process that runs hangs."""
MOST_SILENT: Final = 3
"""A process that gave no sign of life in so many looks in a row hangs, and is killed."""

Say = Callable[[str], None]


class BackOff:
    """How long to wait before the next start: 0 s, then 5·2ⁿ s up to five minutes.

    With a `limit`, there is no next start after so many restarts on end.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.failures = 0
        self._limit = limit

    def next(self, ran_seconds: float) -> float | None:
        """Return the wait after a process that ran so long has ended; None: it is given up."""
        if ran_seconds >= PROVEN_SECONDS:
            self.failures = 0
        self.failures += 1
        if self._limit is not None and self.failures > self._limit:
            return None
        if self.failures == 1:
            return 0.0
        delay = FIRST_DELAY_SECONDS * 2.0 ** min(self.failures - 2, 16)
        return min(delay, LONGEST_DELAY_SECONDS)


class ChildWatch:
    """Wakes who waits for a child's end; `wake` is called on SIGCHLD."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Let everyone look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return when some child has ended."""
        await self._changed.wait()

    async def ended(self, child: Child) -> int:
        """Return the child's exit status once it has one."""
        while (status := child.poll()) is None:
            await self._changed.wait()
        return status


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """How a keeper goes about a process that ends unasked."""

    limit: int | None = None
    """After how many restarts on end it is given up; None: never."""
    on_end: Callable[[], None] = lambda: None
    """Called whenever the process has ended, unasked or not."""
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[asyncio.Event, float], Awaitable[bool]] = is_set_within
    """Waits for so many seconds; True: the event was set within them."""
    health_seconds: float = HEALTH_SECONDS


class Keeper:
    """The life of one role process under the supervisor."""

    def __init__(
        self,
        role: Role,
        watch: ChildWatch,
        say: Say,
        on_ready: Callable[[], None],
        options: KeeperOptions | None = None,
    ) -> None:
        self.role = role
        self.ready = asyncio.Event()
        self.tried = asyncio.Event()
        """Set once it is known whether the first start went well."""
        self.story = ""
        """How it ended last, and what is done about it."""
        self.failed = False
        """Given up: it ended too often on end."""
        self.ended = False
        """It came to the end that it may have."""
        self.restarts = 0
        self.last_restart_at: datetime | None = None
        self.started_at: datetime | None = None
        self._watch = watch
        self._say = say
        self._on_ready = on_ready
        self._options = options or KeeperOptions()
        self._backoff = BackOff(self._options.limit)
        self._stopping = asyncio.Event()
        self._child: Child | None = None
        self._silent_since: float | None = None
        """When a process that was killed since it hung gave its last sign of life."""

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def failures(self) -> int:
        """Return how often it ended unasked, on end."""
        return self._backoff.failures

    async def keep(self) -> int:
        """Run it until `stop`, until it ends by itself where it may, or until it is given up;
        return its last status."""
        while True:
            began = self._options.clock()
            status, story = await self._one_life()
            if self._stopping.is_set() or (self.role.may_end and status == 0):
                self.ended = not self._stopping.is_set()
                self._tell_end(story if self.ended else "")
                return status
            # A process that hung ran as long as it gave signs of life.
            ended = self._options.clock() if self._silent_since is None else self._silent_since
            delay = self._backoff.next(ended - began)
            if delay is None:
                self.failed = True
                often = f"{self.failures} times on end"
                self._tell_end(f"{story}, {often}: it is given up until somebody enables it")
                self._say(f"{self.role.name} {self.story}{self._last_words()}")
                return status
            when = f"in {delay:g} s" if delay else "now"
            self._tell_end(f"{story}; starting it again {when}")
            self._say(f"{self.role.name} {self.story}{self._last_words()}")
            if await self._options.pause(self._stopping, delay):
                return status
            self.restarts += 1
            self.last_restart_at = datetime.now(UTC)

    def _tell_end(self, story: str) -> None:
        self.story = story
        self.ready.clear()
        self.tried.set()
        self._options.on_end()

    async def run_once(self) -> int:
        """Run it to its end and return its exit status; `stop` ends it early."""
        status, _ = await self._one_life()
        return status

    async def _one_life(self) -> tuple[int, str]:
        self.ready.clear()
        self._silent_since = None
        if self.role.ready_file is not None:
            self.role.ready_file.unlink(missing_ok=True)
        with ExitStack() as opened:
            pulse = Pulse() if self.role.beats else None
            if pulse is not None:
                opened.callback(pulse.close)
            try:
                self._child = self._spawned(pulse)
            except ChildError as error:
                return 1, str(error)
            self.started_at = datetime.now(UTC)
            looking = asyncio.create_task(self._look(self._child, pulse))
            try:
                status = await self._watch.ended(self._child)
            finally:
                await end(looking)
        return status, self._how(status)

    def _how(self, status: int) -> str:
        if self._silent_since is None:
            return f"ended with {how_it_ended(status)}"
        silent = MOST_SILENT * self._options.health_seconds
        return f"gave no sign of life for {silent:g} s and was killed"

    def _spawned(self, pulse: Pulse | None) -> Child:
        signs = {} if pulse is None else {VARIABLE: str(pulse.writing)}
        command = Command(
            argv=self.role.argv,
            log=self.role.log,
            env={**self.role.env, **signs},
            # Without the supervisor its servers are gone, so there is nothing to drain into; a
            # crash is what every role survives.
            death_signal=signal.SIGKILL,
            pass_fds=() if pulse is None else (pulse.writing,),
        )
        try:
            return spawn(command)
        finally:
            if pulse is not None:
                pulse.given()

    async def _look(self, child: Child, pulse: Pulse | None) -> None:
        await self._look_until_ready(child)
        if pulse is not None or self.role.health_url is not None:
            await self._kill_when_it_hangs(child, pulse)

    async def _kill_when_it_hangs(self, child: Child, pulse: Pulse | None) -> None:
        heard_at, silent = self._options.clock(), 0
        while silent < MOST_SILENT:
            await asyncio.sleep(self._options.health_seconds)
            if self._stopping.is_set() or child.poll() is not None:
                return
            if await self._gives_signs(pulse):
                heard_at, silent = self._options.clock(), 0
            else:
                silent += 1
        self._silent_since = heard_at
        child.kill()

    async def _gives_signs(self, pulse: Pulse | None) -> bool:
        if pulse is not None:
            return pulse.heard()
        return self.role.health_url is None or await answers(self.role.health_url)

    async def _look_until_ready(self, child: Child) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 - another process's file and port
            await asyncio.sleep(LOOK_SECONDS)
        if child.poll() is None:
            self.ready.set()
            self.tried.set()
            self._on_ready()

    async def _is_ready(self) -> bool:
        if self.role.ready_file is not None and not self.role.ready_file.exists():
            return False
        return self.role.health_url is None or await answers(self.role.health_url)

    def _last_words(self) -> str:
        words = tail(self.role.log, 8)
        return f"\nend of {self.role.log}:\n{words}" if words else ""

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask it to end, wait as long as the role may take, then kill it; `hurry` ends waiting."""
        self._stopping.set()
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        ended = asyncio.ensure_future(self._watch.ended(child))
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {ended, hurried},
                timeout=self.role.stop_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if child.poll() is None:
                if not hurry.is_set():
                    self._say(
                        f"{self.role.name} did not end within {self.role.stop_seconds:g} s and is "
                        "killed; what it had in hand is done at the next start"
                    )
                child.kill()
                await asyncio.wait({ended}, timeout=KILL_SECONDS)
        finally:
            hurried.cancel()
            ended.cancel()


def _any_certificate() -> ssl.SSLContext:
    """Return how a process of ours on this machine is asked: whether it answers, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_OURS = _any_certificate()


async def answers(url: str) -> bool:
    """Say whether an HTTP server answers a GET without a failure of its own."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=_OURS if parts.scheme == "https" else None
            )
            try:
                request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                writer.write(f"{request}Connection: close\r\n\r\n".encode())
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    status = line.split(b" ")[1:2]
    return bool(status) and status[0] == b"200"
