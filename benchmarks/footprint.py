"""`hsi up` warm and idle: seconds until everything answers, memory, idle processor time.

Without the language model, on a state folder whose servers ran before. Memory is PSS (shared pages
counted once) of the supervisor and all processes below it; idle time is theirs, too.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

START_SECONDS = 60.0
SETTLE_SECONDS = 5.0
MIB = 1024 * 1024


def run(*, full: bool) -> dict[str, float]:
    """Return the figures of the second start; the first one makes the databases."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-footprint-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        _stop(_start(folder)[0])
        process, ready_seconds = _start(folder)
        try:
            time.sleep(SETTLE_SECONDS)
            figures = _look_at(process.pid, seconds=60.0 if full else 15.0)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"ready_s": round(ready_seconds, 2), **figures}


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], float]:
    ready = folder / "ready.json"
    places = ["--state", str(folder / "state"), "--cameras", str(folder / "cameras")]
    services = {"REDIS_URL", "DATABASE_URL", "RTDETR_URL", "NEMOTRON_URL"}
    kept = {name: value for name, value in os.environ.items() if name not in services}
    log = {"LOG_FILE_PATH": str(folder / "security.log")}
    began = time.monotonic()
    with (folder / "up.out").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hsi", "up", "--port=0", f"--ready-file={ready}", *places],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **log, "API_HOST": "127.0.0.1", "EMBEDDED_LLM": "off"},
        )
    while not ready.exists():
        if process.poll() is not None or time.monotonic() - began > START_SECONDS:
            process.kill()
            raise SystemExit(f"`hsi up` did not get ready: {(folder / 'up.out').read_text()}")
        time.sleep(0.01)
    assert json.loads(ready.read_text())["pids"]["supervisor"] == process.pid
    return process, time.monotonic() - began


def _look_at(pid: int, *, seconds: float) -> dict[str, float]:
    root = psutil.Process(pid)
    everyone = [root, *root.children(recursive=True)]
    memory = sum(process.memory_full_info().pss for process in everyone)
    before, began = _used(everyone), time.monotonic()
    time.sleep(seconds)
    used, passed = _used(everyone) - before, time.monotonic() - began
    return {
        "pss_mib": round(memory / MIB, 1),
        "idle_core_percent": round(100 * used / passed, 2),
        "processes": len(everyone),
    }


def _used(everyone: list[psutil.Process]) -> float:
    """Return the processor seconds of all that still run (a helper of PostgreSQL may end)."""
    total = 0.0
    for process in everyone:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(60)
