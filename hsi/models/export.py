"""`hsi models export`: a checkpoint becomes the ONNX file that Triton and TensorRT take."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from domain.errors import PermanentError
from hsi.models import checkpoints, real_pictures
from hsi.models.checkpoints import Checkpoint
from hsi.models.environment import exporter_python
from hsi.models.fetch import EnvFile
from hsi.models.real_pictures import DEMO_PICTURES, Pictures
from inference import deploy_graph
from inference.parity import EXACT, Parity, Seen, compare
from inference.repository import sha256_and_size
from runtime.settings import load_settings

SCRIPT = Path(__file__).with_name("export_checkpoint.py")
_PICTURES = "Folder of .jpg or .png to compare on; unset: the demo's pictures."


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A folder, OWNER/NAME of a pinned checkpoint, or OWNER/NAME@REV.")
    ] = checkpoints.DEFAULT,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "rtdetrv2.onnx"
    ),
    pictures: Annotated[Path, typer.Option(help=_PICTURES)] = DEMO_PICTURES,
    environment: Annotated[
        Path | None,
        typer.Option(help="Where torch and transformers are installed; unset: beside the models."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    env_file: EnvFile = None,
) -> None:
    """Make an RT-DETRv2 checkpoint into ONNX: UINT8 pictures in, the 300 best detections out.

    The file is compared with the checkpoint on real pictures, detections as sets, and only
    written where both see the same (boxes within 0.01 px at 1,920). Needs no GPU. The first call
    makes an environment of its own for torch. Ends with 0, or with 1 when the checkpoint cannot
    be had or the two differ.

    Examples: `hsi models export` · `hsi models export ./my-checkpoint -o mine.onnx` ·
    `hsi models export PekingU/rtdetr_v2_r50vd@REVISION -o r50.onnx`
    """
    settings = load_settings(env_file)
    console = Console(stderr=True)
    cache = settings.models_dir / "checkpoints"
    found = checkpoints.find(checkpoint, cache, settings.model_hub_url)
    python = exporter_python(
        environment or settings.models_dir / "environments",
        lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    parity = make(found, output, real_pictures.load(pictures), python)
    if as_json:
        print(json.dumps(_as_json(found, parity, output)))
        return
    sha256, size = sha256_and_size(output)
    Console().print(
        f"[green]written[/] {output} ({size / 1e6:,.1f} MB, sha256 {sha256[:12]}…)\n"
        f"      weights {found.version}, {told(parity)}\n"
        f"      next: `hsi models install {output} --variant cpu --repository FOLDER`, or\n"
        f"      `hsi models plan {output}` where the GPU is",
        highlight=False,
        soft_wrap=True,
    )


def _as_json(found: Checkpoint, parity: Parity, output: Path) -> dict[str, object]:
    sha256, size = sha256_and_size(output)
    return {
        "file": str(output),
        "sha256": sha256,
        "bytes": size,
        "version": found.version,
        "source": found.source,
        "pictures": parity.pictures,
        "detections_compared": parity.compared,
        "worst_box_px": parity.worst_box_px,
        "worst_score": parity.worst_score,
    }


def make(found: Checkpoint, output: Path, pictures: Pictures, python: Path) -> Parity:
    """Export into a folder of its own, compare, and only then move the file to `output`.

    Raises PermanentError where the exporter fails or the graph sees something else.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
            work = Path(folder)
            expected = _run(found.folder, work, pictures, python)
            graph = work / "finished.onnx"
            deploy_graph.finish(
                work / "graph.onnx",
                graph,
                {"name": "rtdetrv2", "version": found.version, "source": found.source},
            )
            deploy_graph.check(graph)
            seen = real_pictures.seen_by_graph(graph, pictures)
            parity = compare(expected, seen, pictures.longer_sides, EXACT)
            if not parity.holds:
                raise PermanentError(
                    f"{output} is not written: the graph does not see what {found.source} sees; "
                    f"{told(parity)}"
                )
            graph.replace(output)
    except OSError as error:
        raise PermanentError(f"{output} cannot be written: {error}") from error
    return parity


def _run(checkpoint: Path, work: Path, pictures: Pictures, python: Path) -> list[Seen]:
    """Run the script in its environment; return what the checkpoint itself sees."""
    given, graph, reference = (work / n for n in ("pictures.npz", "graph.onnx", "reference.npz"))
    np.savez(given, images=pictures.images, sizes=pictures.sizes)
    # Isolated, in the work folder: a folder named like one of torch's modules breaks its import.
    done = subprocess.run(  # noqa: S603 - our own script, no shell
        [python, "-I", "-W", "ignore", SCRIPT, checkpoint, given, graph, reference],
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PermanentError(
            f"{checkpoint} cannot be exported: {done.stderr.strip()[-1500:] or done.returncode}"
        )
    with np.load(reference) as answers:
        return real_pictures.seen_in({name: answers[name] for name in real_pictures.NAMES})


def told(parity: Parity) -> str:
    """Return how two models compared, in words."""
    return (
        f"{parity.compared} detections in {parity.pictures} pictures compared: {parity.missing} "
        f"missing, {parity.surplus} too many, boxes within {parity.worst_box_px:.4f} px at 1,920, "
        f"scores within {parity.worst_score:.1e}"
    )
