"""`hsi models export` with the real exporter, and what it makes on a real Triton server.

The weights are made up (no package ships RT-DETRv2's), the architecture is the published one.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.triton import TritonServer, installed
from tritonclient import grpc
from typer.testing import CliRunner

from domain.errors import PermanentError
from hsi.models import app, real_pictures
from hsi.models.checkpoints import Checkpoint
from hsi.models.export import _run, make
from hsi.models.real_pictures import NAMES, Pictures
from inference import deploy_graph
from inference.embedded_detector import EmbeddedDetector
from inference.images import decode
from inference.parity import EXACT, Seen, compare
from inference.repository import VARIANTS, Candidate, Repository

# The first run on a machine makes the exporter's environment, torch included.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def r18_server(
    r18_checkpoint: Path, exporter: Path, pictures: Pictures
) -> Iterator[tuple[TritonServer, list[Seen]]]:
    """Export ResNet-18 with our own exporter, serve it; also give what the reference sees."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    expected = _run(r18_checkpoint, folder, pictures, exporter)
    graph = folder / "finished.onnx"
    deploy_graph.finish(folder / "graph.onnx", graph, {"name": "rtdetrv2", "version": "made-up"})
    Repository(folder / "models").install(Candidate(graph, VARIANTS["cpu"]), "rtdetrv2")
    server = TritonServer(installed(), folder, folder / "models")
    server.start()
    yield server, expected
    server.stop()
    shutil.rmtree(folder)


@pytest.mark.slow
def test_triton_sees_what_the_reference_implementation_sees(
    r18_server: tuple[TritonServer, list[Seen]], pictures: Pictures
) -> None:
    server, expected = r18_server
    seen = seen_by_triton(server, pictures)
    parity = compare(expected, seen, pictures.longer_sides, EXACT)
    assert parity.holds, parity
    assert parity.compared > 400
    assert parity.worst_box_px <= 0.01
    for ours, theirs in zip(seen, expected, strict=True):
        assert sorted(ours.labels) == sorted(theirs.labels)
        assert len(set(ours.labels.tolist())) > 5, "calibrated: not one class everywhere"


def test_the_command_writes_a_graph_that_says_what_it_is(
    small_checkpoint: Path, exporter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of this name beside the caller breaks `import torch` where it is looked at.
    (tmp_path / "triton").mkdir()
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "out" / "small.onnx"
    environment = exporter.parents[2]
    arguments = ["export", str(small_checkpoint), "-o", str(output), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--environment", str(environment)])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["worst_box_px"] <= 0.01
    assert told["detections_compared"] > 400
    assert deploy_graph.check(output) == told["version"]
    model = onnx.load(output)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert list((tmp_path / "out").iterdir()) == [output]


async def test_the_embedded_detector_runs_an_exported_graph(
    small_graph: Path, tmp_path: Path
) -> None:
    (tmp_path / "rtdetrv2").mkdir()
    shutil.copyfile(small_graph, tmp_path / "rtdetrv2" / "model.onnx")
    detector = EmbeddedDetector(tmp_path)
    shown = real_pictures.DEMO_PICTURES / "porch-1-01.jpg"
    (answer,) = await detector.detect([decode(shown.read_bytes(), shown.name)])
    assert answer.boxes
    assert answer.identity.version.startswith("small-")
    await detector.close()


def test_a_graph_that_sees_something_else_is_not_written(
    small_checkpoint: Path,
    exporter: Path,
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish = deploy_graph.finish

    def bent(source: Path, target: Path, metadata: dict[str, str]) -> None:
        model = onnx.load(source)
        for node in model.graph.node:
            for attribute in node.attribute:
                # 1/255 becomes 1/256, as in an exporter that takes the wrong divisor.
                if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                    value = onnx.numpy_helper.to_array(attribute.t)
                    if value.ndim == 0 and abs(value - 1 / 255) < 1e-6:
                        wrong = np.array(1 / 256, np.float32)
                        attribute.t.CopyFrom(onnx.numpy_helper.from_array(wrong))
        onnx.save(model, source)
        finish(source, target, metadata)

    monkeypatch.setattr(deploy_graph, "finish", bent)
    output = tmp_path / "small.onnx"
    with pytest.raises(PermanentError, match=r"not written.*missing"):
        make(Checkpoint(small_checkpoint, "small"), output, pictures, exporter)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_load_is_named(
    small_checkpoint: Path, exporter: Path, pictures: Pictures, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(small_checkpoint, broken)
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PermanentError, match=r"broken cannot be exported: .*"):
        make(Checkpoint(broken, "broken"), tmp_path / "x.onnx", pictures, exporter)


def seen_by_triton(server: TritonServer, pictures: Pictures) -> list[Seen]:
    client = grpc.InferenceServerClient(server.url.removeprefix("grpc://"))
    inputs = []
    for name, array in (("images", pictures.images), ("orig_target_sizes", pictures.sizes)):
        entry = grpc.InferInput(name, array.shape, {"u": "UINT8", "i": "INT64"}[array.dtype.kind])
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    answer = client.infer("rtdetrv2", inputs, client_timeout=60)
    client.close()
    return real_pictures.seen_in({name: answer.as_numpy(name) for name in NAMES})
