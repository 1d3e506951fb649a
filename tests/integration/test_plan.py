"""`hsi models plan`: which commands it runs, what it records, and the gate on a real Triton.

There is no GPU here: trtexec and nvidia-smi are small programs that imitate the real ones' output,
and the gate judges the variant for CPUs, which the server here can load.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console
from support.triton import TritonServer, installed
from tritonclient import grpc
from typer.testing import CliRunner, Result

from domain.errors import PermanentError, ServiceUnavailableError
from hsi.models import app, plan_record, tensorrt
from hsi.models.parity_gate import GATE_MODEL
from hsi.models.plan import Wish, _build, gated
from inference.repository import VARIANTS, Candidate

TRTEXEC = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec $*"
for word in "$@"; do
  case "$word" in
    --onnx=*) from="${{word#--onnx=}}" ;;
    --saveEngine=*) to="${{word#--saveEngine=}}" ;;
    --help) exit 0 ;;
  esac
done
{work}
"""
COPIES = 'cp "$from" "$to"'
NVIDIA_SMI = '#!/bin/sh\necho "NVIDIA L4, 8.9, 570.124.06"\n'
QUIET = Console(quiet=True)

# The first run on a machine makes the exporter's environment, torch included.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put imitations of trtexec and nvidia-smi first in PATH; return their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    imitate(folder, "trtexec", TRTEXEC.format(version="101303", work=COPIES))
    imitate(folder, "nvidia-smi", NVIDIA_SMI)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    (folder / "models").mkdir()
    server = TritonServer(
        installed(), folder, folder / "models", ("--model-control-mode=explicit",)
    )
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def plan(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


@pytest.mark.parametrize(
    ("digits", "version"),
    [("8601", "8.6.1"), ("100300", "10.3.0"), ("101303", "10.13.3"), ("110400", "11.4.0")],
)
def test_versions_are_read_as_trtexec_prints_them(digits: str, version: str) -> None:
    assert tensorrt.read_version(digits) == version


def test_commands_follow_the_tensorrt_at_hand() -> None:
    tools = tensorrt.Tools("trtexec")
    graph, wanted = Path("/m/x.onnx"), Path("/m/x.plan")
    (ten,) = tools.commands(graph, wanted, "10.13.0", 16)
    assert "--fp16" in ten
    assert "--minShapes=images:1x3x640x640,orig_target_sizes:1x2" in ten
    assert "--optShapes=images:8x3x640x640,orig_target_sizes:8x2" in ten
    assert "--maxShapes=images:16x3x640x640,orig_target_sizes:16x2" in ten
    cast, eleven = tools.commands(graph, wanted, "11.0.0", 16)
    assert cast[:3] == ["python3", "-m", "modelopt.onnx.autocast"]
    assert "--keep_io_types" in cast
    assert "--fp16" not in eleven
    assert "--onnx=/m/x.fp16.onnx" in eleven


def test_an_image_sees_the_folders_and_the_gpus() -> None:
    tools = tensorrt.find("triton:1", (Path("/models"), Path("/models")))
    assert tools is not None
    (command,) = tools.commands(Path("/models/x.onnx"), Path("/models/x.plan"), "10.3.0", 16)
    begin = ["docker", "run", "--rm", "--gpus=all", "--volume=/models:/models", "triton:1"]
    assert command[:6] == begin
    assert command[6] == "/usr/src/tensorrt/bin/trtexec"


def test_without_trtexec_the_exact_commands_are_printed(
    small_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = plan(small_graph, "-o", tmp_path / "model.plan")
    assert result.exit_code == 1
    assert "trtexec was not found on this machine" in str(result.exception)
    assert (
        f"trtexec --onnx={small_graph} --saveEngine={tmp_path}/model.plan --fp16" in result.output
    )
    assert "# TensorRT 11\npython3 -m modelopt.onnx.autocast" in result.output
    assert plan(small_graph, "--dry-run").exit_code == 0


@pytest.mark.usefixtures("tools")
def test_a_plan_without_a_judge_is_built_recorded_and_not_installed(
    small_graph: Path, tmp_path: Path
) -> None:
    output, models = tmp_path / "model.plan", tmp_path / "models"
    result = plan(small_graph, "-o", output, "--repository", models)
    assert result.exit_code == 0, result.output
    record = plan_record.read(output)
    assert (record.tensorrt, record.gpu, record.driver) == ("10.13.3", "NVIDIA L4", "570.124.06")
    assert record.weights.startswith("small-")
    assert record.parity is None
    assert not models.exists()
    installing = CliRunner().invoke(app, ["install", str(output), "--repository", str(models)])
    assert "has not passed its parity gate" in str(installing.exception)


@pytest.mark.parametrize(
    ("work", "said"),
    [("echo out of memory; exit 1", "out of memory"), ("exit 0", "left no plan")],
)
def test_a_build_that_fails_leaves_no_plan(
    small_graph: Path, tools: Path, tmp_path: Path, work: str, said: str
) -> None:
    imitate(tools, "trtexec", TRTEXEC.format(version="101303", work=work))
    output = tmp_path / "model.plan"
    result = plan(small_graph, "-o", output)
    assert result.exit_code == 1
    assert said in str(result.exception)
    assert not output.exists()


def test_no_gpu_is_said(small_graph: Path, tools: Path, tmp_path: Path) -> None:
    imitate(tools, "nvidia-smi", "#!/bin/sh\necho 'No devices were found'; exit 6\n")
    result = plan(small_graph, "-o", tmp_path / "model.plan")
    assert "nvidia-smi names no GPU here" in str(result.exception)


@pytest.mark.usefixtures("tools")
def test_a_server_that_cannot_load_plans_is_named_and_nothing_is_installed(
    small_graph: Path, tmp_path: Path, server: TritonServer
) -> None:
    output, models = tmp_path / "model.plan", tmp_path / "models"
    result = plan(small_graph, "-o", output, "--url", server.url, "--repository", models)
    assert result.exit_code == 1
    assert "unable to find backend library for backend 'tensorrt'" in str(result.exception)
    assert plan_record.read(output).parity is None
    assert not models.exists()


@pytest.mark.usefixtures("tools")
def test_the_gate_lets_pass_what_sees_the_same(
    small_graph: Path, tmp_path: Path, server: TritonServer
) -> None:
    wish, judged = built(small_graph, tmp_path)
    gated(wish, server.url, judged, QUIET)
    parity = plan_record.read(wish.plan).parity
    assert parity is not None
    assert parity.holds
    assert parity.pictures >= 12
    assert parity.compared > 200
    assert json.loads(plan_record.path_of(wish.plan).read_bytes())["parity"]["missing"] == 0
    assert gate_models(server) == []


@pytest.mark.usefixtures("tools")
def test_the_gate_refuses_what_sees_something_else(
    small_graph: Path, tmp_path: Path, server: TritonServer
) -> None:
    wish, judged = built(small_graph, tmp_path)
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(moved(small_graph))
    with pytest.raises(PermanentError, match=r"not installed: it does not see.*missing"):
        gated(wish, server.url, Candidate(wrong, judged.variant), QUIET)
    parity = plan_record.read(wish.plan).parity
    assert parity is not None
    assert parity.missing > parity.compared / 2 > 50
    assert gate_models(server) == []


@pytest.mark.usefixtures("tools")
def test_a_judge_that_is_away_is_no_verdict(small_graph: Path, tmp_path: Path) -> None:
    wish, judged = built(small_graph, tmp_path)
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:9"):
        gated(wish, "grpc://127.0.0.1:9", judged, QUIET)
    assert plan_record.read(wish.plan).parity is None


@pytest.mark.usefixtures("tools")
def test_a_plan_of_another_graph_is_not_judged(
    small_graph: Path, tmp_path: Path, server: TritonServer
) -> None:
    wish, judged = built(small_graph, tmp_path)
    other = tmp_path / "other.onnx"
    other.write_bytes(moved(small_graph))
    with pytest.raises(PermanentError, match="was not built from"):
        gated(Wish(other, wish.plan), server.url, judged, QUIET)


def built(graph: Path, folder: Path) -> tuple[Wish, Candidate]:
    """Build with the imitated tools; what they write is the graph, so a CPU can serve it."""
    wish = Wish(graph, folder / "model.plan")
    tools = tensorrt.find(None, ())
    assert tools is not None
    _build(wish, tools, "small", QUIET)
    return wish, Candidate(wish.plan, VARIANTS["cpu"])


def moved(graph: Path) -> bytes:
    """Return the graph with all boxes 0.4 % of the picture's width to the right."""
    model = onnx.load(graph)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "boxes":
                node.output[index] = "boxes_before"
    shift = np.array([0.004 * 1920, 0, 0.004 * 1920, 0], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(shift, "shift"))
    model.graph.node.append(onnx.helper.make_node("Add", ["boxes_before", "shift"], ["boxes"]))
    data: bytes = model.SerializeToString()
    return data


def gate_models(server: TritonServer) -> list[str]:
    client = grpc.InferenceServerClient(server.url.removeprefix("grpc://"))
    index = client.get_model_repository_index().models
    client.close()
    return [e.state for e in index if e.name == GATE_MODEL and e.state in ("READY", "LOADING")]


def imitate(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
