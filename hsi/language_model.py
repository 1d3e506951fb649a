"""The embedded language model under `hsi up`: fetched in the background, then kept running."""

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hsi.plan import Places, Role
from inference.weights import CATALOGUE, Artefact
from runtime.settings import Settings

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """Which model answers, and where it will listen: loopback, behind a random key."""

    artefact: Artefact
    path: Path
    port: int
    key: str

    @property
    def is_there(self) -> bool:
        """Return whether its weights are complete on this machine."""
        return self.path.is_file()

    @property
    def megabytes(self) -> int:
        """Return the size of its weights."""
        return round(self.artefact.size / 1e6)

    @property
    def environment(self) -> dict[str, str]:
        """Return what the pipeline needs to find it."""
        return {
            "NEMOTRON_URL": f"http://{ADDRESS}:{self.port}",
            "NEMOTRON_API": "chat",
            "NEMOTRON_API_KEY": self.key,
        }

    def fetched_percent(self, models_dir: Path) -> int:
        """Return how much of the weights has arrived."""
        work = models_dir / ".partial" / self.artefact.name
        done = sum(part.stat().st_size for part in work.glob("*") if part.is_file())
        return min(99, done * 100 // self.artefact.size)


def choose(settings: Settings) -> EmbeddedModel | None:
    """Return the embedded model, None when a service is named or the rules work alone."""
    if settings.nemotron_url is not None or not settings.embedded_llm:
        return None
    artefact = CATALOGUE[settings.embedded_llm_model]
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        port = int(listener.getsockname()[1])
    path = artefact.path(settings.models_dir)
    return EmbeddedModel(artefact, path, port, secrets.token_urlsafe(24))


def command_line(model: EmbeddedModel, key_file: Path) -> tuple[str, ...]:
    """Return how the server is started: two questions side by side, the prompt read ahead."""
    threads = min(8, max(2, (os.cpu_count() or 2) // 2))
    return (
        *(sys.executable, "-P", "-m", "inference.llama_child"),
        *("--model", str(model.path), "--port", str(model.port)),
        *("--api-key-file", str(key_file)),
        *("--parallel", "2", "--context", "8192", "--threads", str(threads)),
        "--warm-up",
    )


def write_key(model: EmbeddedModel, key_file: Path) -> None:
    """Put the key where only this account can read it, not on the command line."""
    key_file.unlink(missing_ok=True)
    key_file.touch(0o600)
    key_file.write_text(model.key + "\n")


def role(model: EmbeddedModel, places: Places, env: Mapping[str, str]) -> Role:
    """Return the llama.cpp process."""
    key_file = places.state / "llm.key"
    write_key(model, key_file)
    return Role(
        name="llm",
        argv=command_line(model, key_file),
        env=env,
        log=places.logs / "llm.log",
        contains=("llm",),
        health_url=f"http://{ADDRESS}:{model.port}/health",
    )
