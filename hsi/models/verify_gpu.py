"""`hsi models verify-gpu`: everything that needs a GPU, from a checkpoint to a measured server.

Each step is a command that a person could type; they run one after the other and the first that
fails ends it. Triton runs in a container that is removed at the end, whatever happened.
"""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from domain.errors import PermanentError
from hsi.models import checkpoints
from runtime.settings import PROJECT_ROOT

CONTAINER: Final = "hsi-verify-gpu"
_START_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_IMAGE_LINE = re.compile(r"^ARG TRITON_IMAGE=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what it is for."""

    about: str
    command: tuple[str, ...]
    then_wait_for: int | None = None
    """Port on this machine that must answer before the next step."""


def verify_gpu(
    checkpoint: Annotated[
        str, typer.Argument(help="What `hsi models export` takes.")
    ] = checkpoints.DEFAULT,
    work: Annotated[
        Path, typer.Option(help="Folder for the graph, the plan and a model repository.")
    ] = Path("verify-gpu"),
    image: Annotated[
        str | None, typer.Option(help="Triton's image; unset: the one of docker/Dockerfile.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Triton's gRPC port.")] = 8001,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands and run none of them.")
    ] = False,
) -> None:
    """Prove on a machine with an NVIDIA GPU what cannot be proved without one.

    Exports the checkpoint, starts Triton, builds a plan in Triton's own image, judges it beside
    its graph, installs and loads it, lets it look at the golden picture, and measures it. Needs
    docker with the NVIDIA Container Toolkit. Ends with 0 when all of it worked, else with 1 and
    the step that did not.

    Examples: `hsi models verify-gpu --dry-run` · `make verify-gpu` ·
    `make verify-gpu ARGS="./my-checkpoint --work /srv/verify"`
    """
    steps = plan_steps(checkpoint, work.absolute(), image or _pinned_image(), port)
    if dry_run:
        for step in steps:
            print(f"# {step.about}\n{shlex.join(step.command)}")
        return
    if shutil.which("docker") is None:
        raise PermanentError(
            "docker was not found: this needs a machine with an NVIDIA GPU, docker and the NVIDIA "
            "Container Toolkit; --dry-run prints the commands for another container engine"
        )
    (work.absolute() / "models").mkdir(parents=True, exist_ok=True)
    try:
        run(steps)
    finally:
        _call(("docker", "rm", "--force", CONTAINER), quiet=True)


def plan_steps(checkpoint: str, work: Path, image: str, port: int) -> list[Step]:
    """Return the steps in their order."""
    hsi = (sys.executable, "-m", "hsi", "models")
    graph, plan, models = work / "rtdetrv2.onnx", work / "model.plan", work / "models"
    url, repository = f"--url=grpc://127.0.0.1:{port}", f"--repository={models}"
    run_it = ("docker", "run", "--detach", "--rm", "--gpus=all", f"--name={CONTAINER}")
    mounts = (f"--publish=127.0.0.1:{port}:8001", f"--volume={models}:/models:ro")
    serve = ("tritonserver", "--model-repository=/models", "--model-control-mode=explicit")
    smi = ("docker", "run", "--rm", "--gpus=all", image, "nvidia-smi")
    building = (str(graph), "-o", str(plan), f"--image={image}", url, repository)
    chart = work / "bench.svg"
    return [
        Step("the GPU is visible in a container", smi),
        Step("checkpoint to graph, compared", (*hsi, "export", checkpoint, "-o", str(graph))),
        Step("Triton, with no model yet", (*run_it, *mounts, image, *serve), port),
        Step("graph to plan, judged through Triton, installed", (*hsi, "plan", *building)),
        Step("loaded, golden picture seen", (*hsi, "load", "rtdetrv2", url, repository)),
        Step("measured", (*hsi, "bench", url, "--seconds=5", f"--chart={chart}")),
        Step("driver, GPU and plan fit each other", (*hsi, "doctor", url, repository)),
    ]


def run(steps: Sequence[Step]) -> None:
    """Run the steps; PermanentError names the first that fails."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for number, step in enumerate(steps, 1):
        console.print(f"[bold]{number}/{len(steps)} {step.about}[/]")
        status = _call(step.command)
        if status:
            raise PermanentError(
                f"step {number} of {len(steps)}, {step.about}, ended with {status}: "
                f"{shlex.join(step.command)}"
            )
        if step.then_wait_for is not None:
            _await_port(step.then_wait_for)


def _call(command: Sequence[str], *, quiet: bool = False) -> int:
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, cwd=PROJECT_ROOT, stdout=output, stderr=output, check=False
    )
    return done.returncode


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise PermanentError(
        f"port {port} does not answer after {_START_SECONDS:.0f} s: see `docker logs {CONTAINER}`"
    )


def _pinned_image() -> str:
    found = _IMAGE_LINE.search((PROJECT_ROOT / "docker" / "Dockerfile").read_text())
    if found is None:
        raise PermanentError("docker/Dockerfile names no TRITON_IMAGE: name one with --image")
    return found.group(1)
