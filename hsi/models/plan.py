"""`hsi models plan`: an exported graph becomes a TensorRT plan, judged before it is installed."""

import asyncio
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from domain.errors import PermanentError
from hsi.models import parity_gate, plan_record, real_pictures, tensorrt
from hsi.models.export import told as told_parity
from hsi.models.install import RepositoryFolder, candidate, tell
from hsi.models.real_pictures import DEMO_PICTURES
from hsi.models.tensorrt import Tools
from inference import deploy_graph
from inference.repository import (
    TEMPLATES,
    VARIANTS,
    Candidate,
    PlanRecord,
    Repository,
    sha256_and_size,
)
from runtime.settings import load_settings

MAX_BATCH = 16
"""The max_batch_size of triton_models/rtdetrv2; Triton refuses a plan for less."""
_LINES = ("10.0.0", "11.0.0")


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be built from what."""

    graph: Path
    plan: Path


def plan(
    graph: Annotated[Path, typer.Argument(help="ONNX file of `hsi models export`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan to write.")] = Path(
        "model.plan"
    ),
    url: Annotated[
        str | None,
        typer.Option(
            help="Triton with the TensorRT backend that judges the plan: grpc://HOST:8001."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Build in a container of this image: the one that serves.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands and run none of them.")
    ] = False,
    repository: RepositoryFolder = TEMPLATES,
) -> None:
    """Build a TensorRT plan for the GPU of this machine, judge it through Triton, install it.

    With TensorRT 10 trtexec makes it FP16; from TensorRT 11 on modelopt does that first. Without
    --url the plan is built and left where it is: unjudged plans are never installed. Judged means:
    Triton serves it beside what it serves now, and it sees what the graph sees in real pictures.
    Triton must allow model control. Ends with 0, or with 1 when a step fails or the two differ.

    Examples: `hsi models plan rtdetrv2.onnx --dry-run` ·
    `hsi models plan rtdetrv2.onnx --url grpc://127.0.0.1:8001` ·
    `hsi models plan rtdetrv2.onnx --image TRITON_IMAGE --url grpc://127.0.0.1:8001`
    """
    weights = deploy_graph.check(graph)
    wish = Wish(graph.absolute(), output.absolute())
    tools = tensorrt.find(image, (wish.graph.parent, wish.plan.parent))
    if dry_run or tools is None:
        _show(wish, tools)
        if dry_run:
            return
        raise PermanentError(
            "trtexec was not found on this machine: run the commands above where the GPU is, in "
            "the image that serves, or name that image with --image"
        )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    _build(wish, tools, weights, console)
    if url is None:
        console.print(f"built {wish.plan}, not judged: name a Triton with --url to go on")
        return
    gated(wish, url, Candidate(wish.plan, VARIANTS["tensorrt"], weights), console)
    target = Repository(repository)
    tell(target.install(candidate(wish.plan, VARIANTS["tensorrt"]), "rtdetrv2"), target)


def gated(wish: Wish, url: str, judged: Candidate, console: Console) -> None:
    """Let the gate judge the plan and write its verdict into the record.

    Raises PermanentError where the plan does not see what its graph sees.
    """
    pictures = real_pictures.load(DEMO_PICTURES, most=16)
    record = plan_record.read(wish.plan)
    if record.onnx_sha256 != sha256_and_size(wish.graph)[0]:
        raise PermanentError(f"{wish.plan} was not built from {wish.graph}: build it again")
    trust = load_settings().ai_ca_path
    parity = asyncio.run(parity_gate.judge(url, trust, judged, wish.graph, pictures, TEMPLATES))
    plan_record.write(wish.plan, msgspec.structs.replace(record, parity=parity))
    if not parity.holds:
        raise PermanentError(
            f"{wish.plan} is not installed: it does not see what {wish.graph} sees; "
            f"{told_parity(parity)}"
        )
    console.print(f"the plan sees what the graph sees: {told_parity(parity)}")


def _build(wish: Wish, tools: Tools, weights: str, console: Console) -> None:
    version, gpu = tools.version(), tools.gpu()
    log = wish.plan.with_name(f"{wish.plan.name}.log")
    draft = wish.plan.with_name(f".{wish.plan.name}.draft")
    commands = tools.commands(wish.graph, draft, version, MAX_BATCH)
    console.print(f"building with TensorRT {version} for {gpu.name}; this takes minutes: {log}")
    tensorrt.build(commands, log)
    try:
        plan_sha256, _ = sha256_and_size(draft)
    except OSError as error:
        raise PermanentError(f"the commands in {log} left no plan: {error}") from error
    # The record first: a plan without one is refused, a record of another plan is too.
    record = PlanRecord(
        weights=weights,
        onnx_sha256=sha256_and_size(wish.graph)[0],
        plan_sha256=plan_sha256,
        tensorrt=version,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        max_batch=MAX_BATCH,
        commands=tuple(shlex.join(command) for command in commands),
        built_at=datetime.now(UTC),
    )
    plan_record.write(wish.plan, record)
    draft.replace(wish.plan)


def _show(wish: Wish, tools: Tools | None) -> None:
    """Print the exact commands: for the TensorRT at hand, else for 10 and for 11."""
    for version in [tools.version()] if tools and not tools.prefix else _LINES:
        print(f"# TensorRT {version.partition('.')[0]}")
        shown = (tools or Tools("trtexec")).commands(wish.graph, wish.plan, version, MAX_BATCH)
        for command in shown:
            print(shlex.join(command))
