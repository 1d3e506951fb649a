"""The Triton adapter when the real server stops, loses its model's process, or is set up wrong."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.detect_service import using
from support.models import demo_picture
from support.rtdetr import deploy_graph
from support.triton import REPOSITORY, TritonServer, installed, lay_out_cpu

from domain.errors import ServiceUnavailableError
from inference.images import decode
from inference.ports import Picture
from inference.triton import TritonDetector, TritonOptions


def picture() -> Picture:
    return decode(demo_picture("porch-1-01.jpg"), "porch.jpg")


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    """Run a server of our own: one model as it should be, and two that are set up wrong."""
    home = installed()
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    config = (REPOSITORY / "rtdetrv2_cpu" / "config.pbtxt").read_text()
    variants = {
        "rtdetrv2": config.replace("max_batch_size: 16", "max_batch_size: 3").replace(
            'value: { string_value: "" }', 'value: { string_value: "tiny" }'
        ),
        "floats": config.replace("TYPE_UINT8", "TYPE_FP32"),
    }
    for name, text in variants.items():
        model = lay_out_cpu(folder / "models", deploy_graph(floats=name == "floats"), name)
        # Batches of 16 and 8 cannot be preferred below a limit of 3.
        text = text.replace("preferred_batch_size: [ 4, 8, 16 ]", "preferred_batch_size: [ 2 ]")
        (model / "config.pbtxt").write_text(text)
    server = TritonServer(home, folder, folder / "models")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


async def test_batches_keep_to_the_server_s_limit(server: TritonServer) -> None:
    async with using(TritonDetector(server.url)) as detector:
        assert detector.max_batch == 16
        answers = await detector.detect([picture() for _ in range(8)])
        assert detector.max_batch == 3
    assert len(answers) == 8
    assert answers[0].identity.version == "1:tiny"
    red = float(np.mean(picture().rgb[:, :, 0])) / 255
    assert [answer.boxes[0].score for answer in answers] == pytest.approx([red] * 8, abs=0.01)


async def test_a_model_with_another_contract_is_refused_with_both_contracts(
    server: TritonServer,
) -> None:
    async with using(TritonDetector(server.url, TritonOptions(model="floats"))) as detector:
        with pytest.raises(ServiceUnavailableError, match=r"FP32.*wanted.*UINT8"):
            await detector.detect([picture()])


async def test_an_unknown_model_is_the_server_s_fault_not_the_picture_s(
    server: TritonServer,
) -> None:
    async with using(TritonDetector(server.url, TritonOptions(model="yolo"))) as detector:
        with pytest.raises(ServiceUnavailableError, match="yolo"):
            await detector.detect([picture()])


async def test_a_deadline_is_kept_and_the_next_call_works(server: TritonServer) -> None:
    async with using(TritonDetector(server.url, TritonOptions(read_timeout=0.3))) as detector:
        await detector.check()
        with stopped(stub_of(server, "rtdetrv2")):
            began = asyncio.get_running_loop().time()
            with pytest.raises(ServiceUnavailableError, match="DEADLINE_EXCEEDED"):
                await detector.detect([picture()])
            assert asyncio.get_running_loop().time() - began < 1
    async with using(TritonDetector(server.url)) as patient:
        assert len(await patient.detect([picture()])) == 1


async def test_a_dead_model_process_is_not_taken_for_health(server: TritonServer) -> None:
    """Triton calls such a model ready; only an inference shows that it is not.

    This server does not let itself be told to load it anew: the next test starts it anew.
    """
    async with using(TritonDetector(server.url, TritonOptions(health_timeout=2))) as detector:
        await detector.check()
        stub_of(server, "rtdetrv2").kill()
        with pytest.raises(ServiceUnavailableError, match="--model-control-mode=explicit"):
            await detector.check()
        # The server was asked once; it is not asked again with every check.
        with pytest.raises(ServiceUnavailableError, match="is not healthy"):
            await detector.check()


async def test_a_server_that_comes_back_is_found_again(server: TritonServer) -> None:
    async with using(TritonDetector(server.url, TritonOptions(connect_timeout=2))) as detector:
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        with pytest.raises(ServiceUnavailableError, match="UNAVAILABLE"):
            await detector.detect([picture()])
        await asyncio.to_thread(server.start)
        assert await answered(detector)


async def answered(detector: TritonDetector) -> bool:
    """Ask until there is an answer; gRPC needs a moment to connect again."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ServiceUnavailableError):
                return len(await detector.detect([picture()])) == 1
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Hold a process still for a while."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def stub_of(server: TritonServer, model: str) -> psutil.Process:
    """Return the process in which Triton runs the model's Python code."""
    (stub,) = [
        child
        for child in psutil.Process(server.pid).children(recursive=True)
        if any(f"/{model}/" in word for word in child.cmdline())
    ]
    return stub
