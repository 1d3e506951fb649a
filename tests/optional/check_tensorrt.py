"""`make check-tensorrt`: TensorRT's own parser and compiler on a graph of our exporter, no GPU.

The wheel of TensorRT for RTX compiles without a GPU. It shares the parser and the operators with
the TensorRT that production uses, but its engines are others: this shows that the graph is read
and compiled for batches from 1 to 16, not that a plan sees what it should. That is `make
verify-gpu`. Not part of `make test`: the file's name keeps it out.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.models import cache_folder

from hsi.models import real_pictures
from hsi.models.checkpoints import Checkpoint
from hsi.models.export import make

PACKAGES = ("tensorrt-rtx-cu12==1.7.1.116", "numpy==2.4.6")
SCRIPT = Path(__file__).with_name("compile_graph.py")


@pytest.fixture(scope="module")
def tensorrt_python() -> Path:
    home = cache_folder() / f"tensorrt-{PACKAGES[0].rpartition('=')[2]}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (home / "ready").touch()
    return python


@pytest.mark.timeout(900)
def test_tensorrt_compiles_the_exported_graph(
    tensorrt_python: Path, r18_checkpoint: Path, exporter: Path, tmp_path: Path
) -> None:
    graph = tmp_path / "r18.onnx"
    pictures = real_pictures.load(real_pictures.DEMO_PICTURES, most=2)
    make(Checkpoint(r18_checkpoint, "made-up/r18"), graph, pictures, exporter)
    done = subprocess.run(
        [tensorrt_python, "-I", SCRIPT, graph], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["errors"] == []
    assert told["inputs"] == {"images": [-1, 3, 640, 640], "orig_target_sizes": [-1, 2]}
    assert told["outputs"] == {"labels": [-1, 300], "boxes": [-1, 300, 4], "scores": [-1, 300]}
    assert told["engine_bytes"] > 40_000_000
