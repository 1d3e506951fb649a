"""`hsi serve detector` as a process of its own on a free port: started, used, ended by its PID."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.settings import PROJECT_ROOT

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class DetectProcess:
    """A service that answers."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def terminate(self) -> None:
        """Ask it to stop, and go on at once."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(_STOP_SECONDS)

    @property
    def said(self) -> str:
        return self.output.read_text()


@contextlib.contextmanager
def detect_process(folder: Path, *options: str, **environ: str) -> Iterator[DetectProcess]:
    """Run the service in `folder` until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, output = folder / "ready.json", folder / "output.txt"
    process = start(folder, output, "--ready-file", str(ready), *options, **environ)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the service did not start: {output.read_text()}")
            time.sleep(0.02)
        told = json.loads(ready.read_text())
        assert told["pid"] == process.pid
        yield DetectProcess(told["url"], process, output)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(folder: Path, output: Path, *options: str, **environ: str) -> subprocess.Popen[bytes]:
    """Start `hsi serve detector` with these options; the last --port counts."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hsi", "serve", "detector", "--port", "0", *options],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT), **environ},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="session")
def served_detector(
    ssdlite_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DetectProcess]:
    """Return a service over the embedded fall-back detector."""
    folder = tmp_path_factory.mktemp("detect-service")
    with detect_process(folder, HSI_MODELS_DIR=str(ssdlite_dir)) as running:
        yield running
