"""triton_models/ before Triton's own parser; the JPEG ensemble and installed versions served."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import demo_picture
from support.rtdetr import deploy_graph as tiny_graph
from support.triton import REPOSITORY, TritonServer, installed
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from inference.labels import COCO_LABELS
from inference.repository import VARIANTS, Candidate, Repository
from inference.version_policy import CONFIG, pin

PARSED_BUT_NO_BACKEND = "unable to find backend library for backend '{}'"
NOT_PARSED = "failed to poll from model repository"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[TritonServer, Path]]:
    """Run a server that loads on request; its repository is a copy that tests add to."""
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    repository = folder / "models"
    repository.mkdir()
    shutil.copytree(REPOSITORY / "jpeg_decoder", repository / "jpeg_decoder")
    shutil.copytree(REPOSITORY / "rtdetrv2_jpeg", repository / "rtdetrv2_jpeg")
    server = TritonServer(installed(), folder, repository, ("--model-control-mode=explicit",))
    server.start()
    yield server, repository
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def client(server: tuple[TritonServer, Path]) -> Iterator[Any]:
    client = grpc.InferenceServerClient(server[0].url.removeprefix("grpc://"))
    yield client
    client.close()


@pytest.mark.parametrize(
    ("variant", "backend"), [("tensorrt", "tensorrt"), ("onnx", "onnxruntime")]
)
def test_triton_s_parser_takes_what_only_a_gpu_server_can_run(
    server: tuple[TritonServer, Path], client: Any, variant: str, backend: str
) -> None:
    chosen = VARIANTS[variant]
    model = server[1] / f"parse_{variant}"
    (model / "1").mkdir(parents=True)
    for name in (CONFIG, "labels.txt"):
        shutil.copyfile(REPOSITORY / chosen.template / name, model / name)
    (model / "1" / chosen.file).write_bytes(b"never opened")
    # The parser comes first, then the search for the backend, which this server does not have.
    assert PARSED_BUT_NO_BACKEND.format(backend) in refusal(client, model.name)

    text = (model / CONFIG).read_text()
    for right, wrong in (
        ("timeout_action: REJECT", "timeout_action: REJCT"),
        ("preferred_batch_size: [ 4, 8, 16 ]", "preferred_batch_size: [ 4, 8, 32 ]"),
        ("default_priority_level: 2", "default_priority_level: 3"),
        ("max_batch_size: 16", "max_batch_sise: 16"),
    ):
        assert right in text
        (model / CONFIG).write_text(text.replace(right, wrong))
        assert NOT_PARSED in refusal(client, model.name), wrong


def test_every_variant_keeps_one_contract_and_the_same_labels() -> None:
    def contract(variant: str) -> list[str]:
        lines = (REPOSITORY / VARIANTS[variant].template / CONFIG).read_text().splitlines()
        return [line for line in lines if line.startswith("  { name:") or "max_batch" in line]

    assert len(contract("tensorrt")) == 6
    assert contract("tensorrt") == contract("onnx") == contract("cpu")
    for folder in ("rtdetrv2", "rtdetrv2_onnx", "rtdetrv2_cpu", "rtdetrv2_jpeg"):
        labels = (REPOSITORY / folder / "labels.txt").read_text().splitlines()
        assert labels == list(COCO_LABELS)


def test_an_installed_version_is_served_and_the_next_one_waits_for_its_turn(
    server: tuple[TritonServer, Path], client: Any, tmp_path: Path
) -> None:
    graph = tmp_path / "tiny.onnx"
    graph.write_bytes(tiny_graph(floats=False))
    repository = Repository(server[1])
    first = repository.install(Candidate(graph, VARIANTS["cpu"], "tiny-1"), "rtdetrv2")
    client.load_model("rtdetrv2")
    assert ready_versions(client) == ["1"]
    config = client.get_model_config("rtdetrv2").config
    assert config.parameters["weights"].string_value == "tiny-1"

    second = repository.install(Candidate(graph, VARIANTS["cpu"], "tiny-2"), "rtdetrv2")
    assert (first.version, second.version) == (1, 2)
    client.load_model("rtdetrv2")
    assert ready_versions(client) == ["1"], "what was installed waits for its promotion"
    pin(server[1] / "rtdetrv2" / CONFIG, 2)
    client.load_model("rtdetrv2")
    assert ready_versions(client) == ["2"]


def test_jpeg_in_detections_out(
    server: tuple[TritonServer, Path], client: Any, tmp_path: Path
) -> None:
    graph = tmp_path / "tiny.onnx"
    graph.write_bytes(tiny_graph(floats=False))
    if not Repository(server[1]).versions("rtdetrv2"):
        Repository(server[1]).install(Candidate(graph, VARIANTS["cpu"]), "rtdetrv2")
    client.load_model("rtdetrv2")
    client.load_model("jpeg_decoder")
    client.load_model("rtdetrv2_jpeg")
    labels, boxes, scores = ask(client, [demo_picture("porch-1-01.jpg")] * 2)
    assert labels.shape == (2, 300)
    assert boxes[0, 0] == pytest.approx([192, 144, 576, 432]), "half of 768 x 576, in its middle"
    assert 0.1 < scores[1, 0] < 0.9
    with pytest.raises(InferenceServerException, match="not a JPEG picture that can be used"):
        ask(client, [b"GIF89a nothing of the kind"])
    with pytest.raises(InferenceServerException, match="60000 x 60000 is above 100 megapixels"):
        ask(client, [claiming_to_be(60_000, demo_picture("porch-1-01.jpg"))])


def refusal(client: Any, model: str) -> str:
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(model)
    return str(caught.value)


def ready_versions(client: Any) -> list[str]:
    index = client.get_model_repository_index().models
    return [e.version for e in index if (e.name, e.state) == ("rtdetrv2", "READY")]


def ask(client: Any, pictures: list[bytes]) -> tuple[Any, Any, Any]:
    entry = grpc.InferInput("encoded", (len(pictures), 1), "BYTES")
    entry.set_data_from_numpy(np.array([[picture] for picture in pictures], np.object_))
    answer = client.infer("rtdetrv2_jpeg", [entry], client_timeout=30)
    return answer.as_numpy("labels"), answer.as_numpy("boxes"), answer.as_numpy("scores")


def claiming_to_be(side: int, jpeg: bytes) -> bytes:
    """Return the picture with another height and width in its frame header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + side.to_bytes(2) * 2 + jpeg[at + 4 :]
