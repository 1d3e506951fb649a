"""A real Triton server on this machine's CPU, without containers: started, used, ended by PID.

The server is the binary of the Python package nvidia-pytriton, with the Python backend; the model
repository is the product's own `triton_models/`. In place of RT-DETRv2's weights, which no package
ships, stands a graph with the same inputs and outputs around the fall-back detector's network.

Server and its Python environment are fetched once a machine into a folder outside the repository.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, compose, helper, numpy_helper
from support.models import cache_folder
from support.servers import free_ports

REPOSITORY = Path(__file__).resolve().parents[2] / "triton_models"
_SERVER_PACKAGE = "nvidia-pytriton==0.7.0"
_STUB_PACKAGES = ("numpy<2", "onnxruntime>=1.20,<2", "pillow>=11")
_READY_SECONDS = 60.0
_STUB = f"{sys.version_info.major}.{sys.version_info.minor}"


class TritonServer:
    """One server process on free loopback ports."""

    def __init__(
        self, home: Path, folder: Path, repository: Path, options: Sequence[str] = ()
    ) -> None:
        self._binary = home / "server" / "pytriton" / "tritonserver" / "bin" / "tritonserver"
        self._environment = home / "environment"
        self._folder = folder
        self.repository = repository
        self._options = options
        self._backends = _lay_out_backends(home, folder)
        self._ports = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        grpc, http, metrics = self._ports
        arguments = [
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            f"--grpc-port={grpc}",
            f"--http-port={http}",
            f"--metrics-port={metrics}",
            "--grpc-address=127.0.0.1",
            "--http-address=127.0.0.1",
            "--metrics-address=127.0.0.1",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=5",
            *self._options,
        ]
        environment = {**os.environ, "PATH": f"{self._environment}/bin:{os.environ['PATH']}"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *arguments],
                env=environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._await_ready(f"http://127.0.0.1:{http}/v2/health/ready")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def log(self) -> Path:
        return self._folder / "triton.log"

    def _await_ready(self, url: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                urllib.request.urlopen(url, timeout=1).close()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
            else:
                return
        tail = self.log.read_text(errors="replace")[-3000:]
        self.stop(signal.SIGKILL)
        pytest.fail(f"tritonserver did not become ready: {tail}")


@pytest.fixture(scope="session")
def triton_server(ssdlite_dir: Path) -> Iterator[TritonServer]:
    """Run Triton with the variant for CPUs as `rtdetrv2`, and the stand-in as its weights."""
    home = installed()
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    repository = folder / "models"
    lay_out_cpu(repository, stand_in(ssdlite_dir / "ssdlite" / "model.onnx"))
    server = TritonServer(home, folder, repository)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def lay_out_cpu(repository: Path, weights: bytes, model: str = "rtdetrv2") -> Path:
    """Lay the variant for CPUs out under `model`, version 1; return the model's folder."""
    template, folder = REPOSITORY / "rtdetrv2_cpu", repository / model
    (folder / "1").mkdir(parents=True)
    for name in ("config.pbtxt", "labels.txt"):
        shutil.copyfile(template / name, folder / name)
    shutil.copyfile(template / "model.py", folder / "1" / "model.py")
    (folder / "1" / "model.onnx").write_bytes(weights)
    return folder


def stand_in(ssdlite: Path) -> bytes:
    """Return an ONNX file that keeps Triton's contract with the fall-back's network inside."""
    core = compose.add_prefix(onnx.load(ssdlite), "net/")
    constants = {
        "scale": np.array([1, 300 / 640, 300 / 640, 1], np.float32),
        "k": np.array([300], np.int64),
        "last": np.array([-1], np.int64),
        "corners": np.array([1, 1, 4], np.int64),
        "twice": np.array([1, 2], np.int64),
        "middle": np.array([1], np.int64),
    }
    before = [
        helper.make_node("Transpose", ["images"], ["channels_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["channels_last"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["pixels", "", "scale"], ["small"], mode="linear"),
        helper.make_node("Cast", ["small"], ["net/images"], to=TensorProto.UINT8),
    ]
    after = [
        helper.make_node("ReduceMax", ["net/scores"], ["best"], axes=[2], keepdims=0),
        helper.make_node("ArgMax", ["net/scores"], ["classes"], axis=2, keepdims=0),
        helper.make_node("TopK", ["best", "k"], ["scores", "rows"], axis=1),
        helper.make_node("GatherElements", ["classes", "rows"], ["labels"], axis=1),
        helper.make_node("Unsqueeze", ["rows", "last"], ["rows_deep"]),
        helper.make_node("Tile", ["rows_deep", "corners"], ["rows_wide"]),
        helper.make_node("GatherElements", ["net/boxes", "rows_wide"], ["fractions"], axis=1),
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Tile", ["sizes", "twice"], ["sizes_twice"]),
        helper.make_node("Unsqueeze", ["sizes_twice", "middle"], ["sizes_wide"]),
        helper.make_node("Mul", ["fractions", "sizes_wide"], ["boxes"]),
    ]
    graph = helper.make_graph(
        [*before, *core.graph.node, *after],
        "stand_in",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, 640, 640]),
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["N", 300]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 300, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 300]),
        ],
        [
            *core.graph.initializer,
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=core.opset_import)
    model.ir_version = core.ir_version
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def installed() -> Path:
    """Return the folder of the server and its environment; fetch both the first time."""
    # Named after what is in it: a server that runs from an older folder keeps it.
    wanted = hashlib.sha256(repr((_SERVER_PACKAGE, *_STUB_PACKAGES)).encode()).hexdigest()[:8]
    home = cache_folder() / f"triton-{wanted}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home / f"done-{_STUB}"
        if not done.exists():
            for folder in ("server", "environment"):
                shutil.rmtree(home / folder, ignore_errors=True)
            try:
                _install(home)
            except subprocess.CalledProcessError as error:
                said = error.stdout.decode(errors="replace")[-600:]
                pytest.skip(f"Triton's wheel or its environment cannot be had here: {said}")
            done.touch()
    return home


def _install(home: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    _call(*pip, "--no-deps", "--target", str(home / "server"), _SERVER_PACKAGE)
    environment = home / "environment"
    _call(sys.executable, "-m", "venv", "--without-pip", str(environment))
    packages = environment / "lib" / f"python{_STUB}" / "site-packages"
    _call(*pip, "--target", str(packages), *_STUB_PACKAGES)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _lay_out_backends(home: Path, folder: Path) -> Path:
    package = home / "server" / "pytriton" / "tritonserver"
    stub = package / "python_backend_stubs" / _STUB / "triton_python_backend_stub"
    if not stub.exists():
        pytest.skip(f"Triton's package has no Python stub for Python {_STUB}")
    python = folder / "backends" / "python"
    python.mkdir(parents=True)
    for path in (*(package / "backends" / "python").iterdir(), stub):
        (python / path.name).symlink_to(path)
    return python.parent
