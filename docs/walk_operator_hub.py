"""Walks the operator hub's examples against a running system and says pass, fail or missing.

    .venv/bin/python docs/walk_operator_hub.py http://127.0.0.1:8000 > docs/walk_operator_hub.txt

Where ours is another way, that one is walked, and the line says so. Exit code 1: one fails.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HSI = [sys.executable, "-P", "-m", "hsi"]
SECONDS = 60


@dataclass(frozen=True)
class Example:
    """One example of the hub, and how it is walked; `walk` None: there is none here yet."""

    part: str
    shown: str
    walk: Callable[[], str] | None
    note: str = ""


class System:
    """The running system."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    def ask(self, path: str, body: object = None, *, method: str = "GET", also: int = 0) -> Any:  # noqa: ANN401 - JSON
        """Return an answer's JSON (or text); `also` is a status that is fine besides 2xx."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        if key := os.environ.get("HSI_API_KEY"):
            headers["X-API-Key"] = key
        request = urllib.request.Request(self.base + path, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            if error.code != also:
                raise RuntimeError(f"{error.code}: {text[:200]}") from error
        return json.loads(text) if text.startswith(("{", "[")) else text

    def has(self, path: str, *fields: str) -> Callable[[], str]:
        """Return a walk: the answer must have these fields."""

        def walk() -> str:
            told = self.ask(path)
            missing = [field for field in fields if field not in told]
            if missing:
                raise RuntimeError(f"the answer has no {', '.join(missing)}")
            return ", ".join(f"{field}={str(told[field])[:40]}" for field in fields)

        return walk

    def service(self, name: str) -> Callable[[], str]:
        """Return a walk: health must say that a service answers."""

        def walk() -> str:
            told = self.ask("/api/system/health", also=503)["services"][name]
            if told["status"] != "healthy":
                raise RuntimeError(f"{told['status']}: {told['message']}")
            return str(told["message"])[:60]

        return walk

    def add_camera(self) -> str:
        """Add the hub's camera; it may be there already."""
        body = {"name": "Front Door", "folder_path": "front_door", "status": "active"}
        told = self.ask("/api/cameras", body, method="POST", also=409)
        return f"id={told['id']}" if "id" in told else str(told["detail"])[:60]

    def cleanup(self) -> str:
        """Ask what a cleanup would delete."""
        told = self.ask("/api/system/cleanup?dry_run=true", method="POST")
        return f"events_deleted={told['events_deleted']}, dry_run={told['dry_run']}"

    def history(self) -> str:
        """Ask for the GPU's history of the last hour."""
        since = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = self.ask(f"/api/system/gpu/history?since={since}&limit=300")
        return f"count={told['count']}, limit={told['limit']}"

    def restart(self) -> str:
        """Press the panel's button for the detection, and see that another process has it."""
        told = self.ask("/api/system/services/detect/restart", method="POST")
        found = told["service"]
        if not told["success"] or found["restart_count"] < 1 or found["uptime_seconds"] > SECONDS:
            raise RuntimeError(str(told)[:200])
        return f"{told['message']}, restart_count={found['restart_count']}"

    def diagnostics(self) -> str:
        """Collect what a report of a problem needs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.tar.gz"
            command("diagnostics", "--url", self.base, "--output", str(path))()
            with tarfile.open(path) as archive:
                names = {Path(name).name for name in archive.getnames()}
        missing = {"health.json", "gpu.json", "services.json", "log.jsonl"} - names
        if missing:
            raise RuntimeError(f"the archive has no {', '.join(sorted(missing))}")
        return f"`hsi diagnostics`, {len(names)} files"

    def page(self) -> str:
        """Open the dashboard."""
        if "<html" not in self.ask("/").lower():
            raise RuntimeError("no page is answered")
        return "a page"


def command(*arguments: str, says: str = "", **environ: str) -> Callable[[], str]:
    """Return a walk: one of our commands must end well and say something."""

    def walk() -> str:
        done = subprocess.run(  # noqa: S603 - our own command
            [*HSI, *arguments],
            cwd=ROOT,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode or says not in done.stdout:
            raise RuntimeError((done.stderr or done.stdout).strip()[-200:])
        return f"`hsi {' '.join(arguments)}`"

    return walk


def secret_file() -> str:
    """Give the Redis password as a file, as the hub's part on secrets does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis_password.txt"
        path.write_text("walked-secret\n")
        path.chmod(0o600)
        command("config", "--json", says="********", REDIS_PASSWORD_FILE=str(path))()
    return "`REDIS_PASSWORD_FILE=…`, shown masked"


def examples(system: System) -> list[Example]:
    """Return every example of the hub, in its order."""
    has = system.has
    health = has("/api/system/health", "status", "services")
    template = command("config", "--example", says="#REDIS_URL=")
    migrate = "the newest migration's table answers: `hsi up` migrates, or `hsi migrate`"
    return [
        Example("Quick Deploy", "docker compose … up -d", has("/health", "status"), "by `hsi up`"),
        Example("Installation", "ai/download_models.sh", command("models", "list")),
        Example("Installation", "cp .env.example .env", template),
        Example("Installation", "curl /api/system/health", health),
        Example("Environment", "the four layers", command("config", says="from")),
        Example("Environment", "check of services", command("config", "--check"), "ours"),
        Example("Camera Setup", "POST /api/cameras", system.add_camera),
        Example(
            "Camera Setup",
            "FILE_WATCHER_POLLING=true",
            command("config", says="FILE_WATCHER_POLLING", FILE_WATCHER_POLLING="true"),
        ),
        Example(
            "Database Setup", "alembic upgrade head", has("/api/logs/stats", "total"), migrate
        ),
        Example(
            "Redis Setup",
            "REDIS_PASSWORD",
            command("config", "--json", says="********", **{"REDIS_PASSWORD": "walked-secret"}),
        ),
        Example("Secrets", "secrets/redis_password.txt", secret_file),
        Example("Monitoring", "GET /api/system/health", health),
        Example("Monitoring", "GET /api/system/gpu", has("/api/system/gpu", "gpu_name")),
        Example("Monitoring", "GET /api/system/gpu/history", system.history),
        Example("Monitoring", "GET /api/dlq/stats", has("/api/dlq/stats")),
        Example("Monitoring", "metrics", lambda: f"{len(system.ask('/api/metrics'))} bytes"),
        Example("Service Control", "list of services", has("/api/system/services", "services")),
        Example("Service Control", "restart by the dashboard", system.restart),
        Example("Alerting", "--profile monitoring", None, "no Alertmanager is shipped yet"),
        Example(
            "Backup",
            "pg_dump, pg_restore",
            None,
            "tables are made from the log; copy the state folder",
        ),
        Example("Retention", "POST cleanup?dry_run=true", system.cleanup),
        Example(
            "Performance",
            "GPU_POLL_INTERVAL_SECONDS",
            has("/api/system/config", "gpu_poll_interval_seconds"),
        ),
        Example("Health checks", "dashboard", system.page),
        Example("Health checks", "pg_isready", system.service("database")),
        Example("Health checks", "redis-cli ping", system.service("redis")),
        Example("Health checks", "curl :8090/health", system.service("ai"), "detector and model"),
        Example("Logs", "logs --tail=100 backend", has("/api/logs?limit=100", "count")),
        Example("Risk Levels", "the four levels", has("/api/system/severity", "definitions")),
        Example("Getting Help", "health, GPU, status, logs", system.diagnostics),
    ]


def main() -> int:
    """Walk and say how it went."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"usage: {sys.argv[0]} http://host:8000\n")
        return 2
    failed = 0
    for example in examples(System(sys.argv[1])):
        word, said = "missing", example.note
        if example.walk is not None:
            try:
                word, said = "pass", example.walk()
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                word, said = "fail", f"{type(error).__name__}: {error}"
                failed += 1
            said += f" ({example.note})" if example.note else ""
        line = f"{word:8}{example.part:16}{example.shown:30}{said}"
        sys.stdout.write(" ".join(line.splitlines()) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
