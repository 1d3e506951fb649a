"""TensorRT at hand: which version it is, and the commands that build a plan with it.

Its tools run on this machine or, with an image, in a container of it: a plan only loads in the
TensorRT that built it, so the image that serves is the one to build with.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain.errors import PermanentError

_IN_IMAGES: Final = "/usr/src/tensorrt/bin/trtexec"
_BANNER = re.compile(r"TensorRT v(\d{4,6})")
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
_INPUTS = (("images", "3x640x640"), ("orig_target_sizes", "2"))


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU that the tools see: a plan is built for it."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True, slots=True)
class Tools:
    """How to call trtexec and its company."""

    trtexec: str
    prefix: tuple[str, ...] = ()
    """What stands before every command: nothing, or a container's start."""

    def version(self) -> str:
        """Return TensorRT's version, as 10.13.0; PermanentError where trtexec does not say."""
        said = _run((*self.prefix, self.trtexec, "--help"), "trtexec").stdout
        found = _BANNER.search(said)
        if found is None:
            raise PermanentError(
                f"{self.trtexec} --help names no TensorRT version: {said[:200]!r}"
            )
        return read_version(found.group(1))

    def gpu(self) -> Gpu:
        """Return the GPU; PermanentError where there is none."""
        done = _run((*self.prefix, *_GPU_QUERY), "nvidia-smi")
        parts = [part.strip() for part in done.stdout.splitlines()[:1] for part in part.split(",")]
        if done.returncode or len(parts) != 3:
            raise PermanentError(f"nvidia-smi names no GPU here: {(done.stdout or done.stderr)!r}")
        return Gpu(*parts)

    def commands(self, graph: Path, plan: Path, version: str, max_batch: int) -> list[list[str]]:
        """Return the commands that make `graph` into `plan`, in their order."""
        commands, source, flags = [], graph, ["--fp16"]
        if int(version.partition(".")[0]) >= 11:
            # TensorRT 11 has no --fp16: the graph itself must say what is FP16.
            source, flags = plan.with_suffix(".fp16.onnx"), []
            autocast = ("python3", "-m", "modelopt.onnx.autocast")
            arguments = (f"--onnx_path={graph}", f"--output_path={source}")
            half = ("--low_precision_type=fp16", "--keep_io_types")
            commands.append([*self.prefix, *autocast, *arguments, *half])
        shapes = [
            f"--{kind}Shapes=" + ",".join(f"{name}:{count}x{rest}" for name, rest in _INPUTS)
            for kind, count in (("min", 1), ("opt", max(1, max_batch // 2)), ("max", max_batch))
        ]
        files = [f"--onnx={source}", f"--saveEngine={plan}"]
        commands.append([*self.prefix, self.trtexec, *files, *flags, *shapes, "--skipInference"])
        return commands


def read_version(digits: str) -> str:
    """Return 10.13.0 for trtexec's 101300, and 8.6.1 for its 8601."""
    number = int(digits)
    if number < 10_000:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def find(image: str | None, folders: Sequence[Path]) -> Tools | None:
    """Return the tools of this machine, or of a container image that sees `folders`; or None."""
    if image is not None:
        mounts = [f"--volume={folder}:{folder}" for folder in dict.fromkeys(folders)]
        return Tools(_IN_IMAGES, ("docker", "run", "--rm", "--gpus=all", *mounts, image))
    trtexec = shutil.which("trtexec") or shutil.which(_IN_IMAGES)
    return Tools(trtexec) if trtexec else None


def build(commands: Sequence[Sequence[str]], log: Path) -> None:
    """Run the commands one after the other, their output into `log`; PermanentError on failure."""
    with log.open("w") as file:
        for command in commands:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            done = _run(command, command[0], output=file.fileno())
            if done.returncode:
                last = log.read_text(errors="replace")[-1200:]
                raise PermanentError(
                    f"{shlex.join(command)} ended with {done.returncode}; {log} has all of it: "
                    f"{last}"
                )


def _run(
    command: Sequence[str], what: str, *, output: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    errors = subprocess.PIPE if output == subprocess.PIPE else subprocess.STDOUT
    try:
        return subprocess.run(  # noqa: S603 - our own arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PermanentError(f"{what} cannot be started: {error}") from error
