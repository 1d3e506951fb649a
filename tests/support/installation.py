"""A whole `hsi up` as real processes on a state folder and a port of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

START_SECONDS = 120.0


class Installation:
    """One `hsi up` over `folder`; may be started again after it stopped."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.cameras = folder / "cameras"
        self.ready_file = folder / "ready.json"
        self.output = folder / "up.out"
        self.settings = {
            "EMBEDDED_LLM": "off",
            "API_HOST": "127.0.0.1",
            "LOG_FILE_PATH": str(folder / "security.log"),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it without waiting; its output goes to a file."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hsi", "up", *self._places(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environ,
            )
        return self.process

    @property
    def environ(self) -> dict[str, str]:
        """The environment that its settings come from."""
        kept = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
        return {**kept, **self.settings}

    def _places(self) -> list[str]:
        paths = ["--state", str(self.state), "--cameras", str(self.cameras)]
        return ["--port", "0", *paths, "--ready-file", str(self.ready_file)]

    def start(self, *arguments: str) -> float:
        """Start it and return the seconds until everything answered."""
        began = time.monotonic()
        self.spawn(*arguments)
        self.wait(self.ready_file.exists, "did not get ready")
        return time.monotonic() - began

    def wait(self, condition: Any, problem: str, *, seconds: float = START_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{problem}; it said:\n{self.said()}")
            time.sleep(0.02)

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def told(self) -> dict[str, Any]:
        """What the ready file says."""
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    @property
    def base_url(self) -> str:
        return str(self.told["base_url"])

    @property
    def pids(self) -> dict[str, int]:
        return dict(self.told["pids"])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.base_url + path, timeout=10) as response:
            return json.load(response)

    def drop(self, camera: str, name: str, content: bytes) -> Path:
        """Put a file into a camera's folder as a whole."""
        folder = self.cameras / camera
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        part.write_bytes(content)
        return part.rename(folder / name)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


_REDIRECTING = {"REDIS_URL", "REDIS_PASSWORD", "DATABASE_URL", "NEMOTRON_URL", "RTDETR_URL"}


@contextlib.contextmanager
def installed(folder: Path, **settings: str) -> Iterator[Installation]:
    """Give an installation and leave no process of it behind."""
    installation = Installation(folder, **settings)
    try:
        yield installation
    finally:
        if installation.process is not None and installation.process.poll() is None:
            installation.process.kill()  # its children die with it
            installation.process.wait()


def gone(pids: dict[str, int]) -> bool:
    """Say whether none of the processes is left."""
    return not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        for pid in pids.values()
    )
