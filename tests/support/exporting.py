"""The exporter's environment and checkpoints with made-up weights, made once a machine."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.models import cache_folder

from domain.errors import TransientError
from hsi.models import real_pictures
from hsi.models.checkpoints import Checkpoint
from hsi.models.environment import exporter_python
from hsi.models.export import make
from inference.repository import sha256_and_size

_SCRIPT = Path(__file__).with_name("calibrate_checkpoint.py")
_PICTURES = 4


@pytest.fixture(scope="session")
def exporter() -> Path:
    """Return the Python that exports; without torch's wheel the tests are skipped, loudly."""
    try:
        return exporter_python(cache_folder(), lambda _: None)
    except TransientError as error:
        pytest.skip(f"NOT TESTED: the exporter's environment cannot be had here: {error}")


@pytest.fixture(scope="session")
def pictures() -> real_pictures.Pictures:
    return real_pictures.load(real_pictures.DEMO_PICTURES, most=_PICTURES)


@pytest.fixture(scope="session")
def small_checkpoint(exporter: Path) -> Path:
    """Return the folder of a checkpoint of 0.2 million made-up weights."""
    return checkpoint("small", exporter)


@pytest.fixture(scope="session")
def r18_checkpoint(exporter: Path) -> Path:
    """Return the folder of a checkpoint with the published ResNet-18 architecture."""
    return checkpoint("r18", exporter)


@pytest.fixture(scope="session")
def small_graph(
    small_checkpoint: Path, exporter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the small checkpoint, exported by the product's own exporter."""
    output = tmp_path_factory.mktemp("graph") / "model.onnx"
    shown = real_pictures.load(real_pictures.DEMO_PICTURES, most=_PICTURES)
    make(Checkpoint(small_checkpoint, "small"), output, shown, exporter)
    return output


def checkpoint(size: str, python: Path) -> Path:
    """Return a checkpoint's folder; make it the first time, and when its script has changed."""
    content = hashlib.sha256(_SCRIPT.read_bytes()).hexdigest()[:8]
    folder = cache_folder() / f"checkpoint-{size}-{content}-{python.parents[1].name[-8:]}"
    with (cache_folder() / "checkpoints.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_name(f".{folder.name}")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            shown = real_pictures.load(real_pictures.DEMO_PICTURES, most=_PICTURES)
            np.savez(draft / "pictures.npz", images=shown.images)
            arguments = (size, str(draft / "pictures.npz"), str(draft))
            done = subprocess.run(
                [python, "-I", "-W", "ignore", _SCRIPT, *arguments],
                cwd=draft,
                env={**os.environ, "OMP_NUM_THREADS": "2"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            draft.rename(folder)
    assert sha256_and_size(folder / "model.safetensors")[1] > 100_000
    return folder
