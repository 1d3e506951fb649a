"""The embedded adapter beyond the contract: both forms of RT-DETRv2, and what is refused."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.models import PICTURES, demo_picture
from support.rtdetr import deploy_graph, hugging_face_export

from domain.errors import PermanentError, ServiceUnavailableError
from inference.detectors import DetectorOptions, open_detector
from inference.embedded_detector import EmbeddedDetector
from inference.images import decode
from inference.ports import Picture


def reddish(red: int, width: int = 200, height: int = 100) -> Picture:
    bgr = np.zeros((height, width, 3), np.uint8)
    bgr[:, :, 2] = red
    return decode(cv2.imencode(".png", bgr)[1].tobytes(), f"red-{red}.png")


def put(models_dir: Path, name: str, data: bytes) -> Path:
    path = models_dir / name / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: deploy_graph(floats=True), id="deploy, floats"),
        pytest.param(lambda: deploy_graph(floats=False), id="deploy, bytes"),
        pytest.param(hugging_face_export, id="hugging face"),
    ],
)
async def test_both_forms_of_rtdetr(tmp_path: Path, make: Callable[[], bytes]) -> None:
    put(tmp_path, "rtdetrv2", make())
    detector = EmbeddedDetector(tmp_path, max_batch=2, allow_fallback=False)
    answers = await detector.detect([reddish(204), reddish(51), reddish(128, 80, 60)])
    assert [round(answer.boxes[0].score, 2) for answer in answers] == [0.8, 0.2, 0.5]
    first, _, small = (answer.boxes[0] for answer in answers)
    assert first.label == "dog"
    assert (first.x, first.y, first.width, first.height) == (50, 25, 100, 50)
    assert (small.x, small.y, small.width, small.height) == (20, 15, 40, 30)
    identity = answers[0].identity
    assert (identity.model, identity.fallback) == ("rtdetrv2", False)
    assert identity.version.startswith("sha256:")
    await detector.close()


async def test_rtdetr_is_preferred_to_the_fallback(tmp_path: Path, ssdlite_dir: Path) -> None:
    put(tmp_path, "ssdlite", (ssdlite_dir / "ssdlite" / "model.onnx").read_bytes())
    fallback = EmbeddedDetector(tmp_path)
    identity = await fallback.check()
    assert (identity.model, identity.version) == ("ssdlite-mobilenetv2", "tfjs-1.0.6")
    assert identity.fallback
    await fallback.close()
    put(tmp_path, "rtdetrv2", hugging_face_export())
    primary = EmbeddedDetector(tmp_path)
    assert not (await primary.check()).fallback
    await primary.close()


async def test_weights_that_arrive_later_are_found(tmp_path: Path) -> None:
    detector = EmbeddedDetector(tmp_path)
    with pytest.raises(ServiceUnavailableError, match="hsi models fetch detector"):
        await detector.check()
    put(tmp_path, "rtdetrv2", hugging_face_export())
    assert (await detector.check()).model == "rtdetrv2"
    await detector.close()


async def test_the_fallback_is_refused_where_it_is_not_allowed(ssdlite_dir: Path) -> None:
    detector = open_detector(None, DetectorOptions(ssdlite_dir, allow_fallback=False))
    with pytest.raises(ServiceUnavailableError, match="fall-back detector is not allowed"):
        await detector.check()
    await detector.close()


async def test_a_file_that_is_no_detector_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "rtdetrv2", b"this is no ONNX file")
    detector = EmbeddedDetector(tmp_path)
    with pytest.raises(ServiceUnavailableError, match=r"rtdetrv2/model\.onnx does not load"):
        await detector.check()
    path.write_bytes(deploy_graph(floats=True).replace(b"labels", b"bables"))
    with pytest.raises(ServiceUnavailableError, match="is not a detector we know"):
        await detector.check()
    await detector.close()


async def test_people_are_found_in_the_yard_and_things_on_the_porch(ssdlite_dir: Path) -> None:
    """The measured quality of the fall-back: a person in every frame, 100 of them in all."""
    detector = EmbeddedDetector(ssdlite_dir)
    people = 0
    for path in sorted(PICTURES.glob("yard-*.jpg")):
        (answer,) = await detector.detect([decode(path.read_bytes(), path.name)])
        seen = [box.label for box in answer.boxes if box.score >= 0.5]
        assert "person" in seen, path.name
        people += seen.count("person")
    assert people >= 100
    (porch,) = await detector.detect([decode(demo_picture("porch-1-01.jpg"), "porch")])
    things = {box.label for box in porch.boxes if box.score >= 0.5}
    assert {"dog", "bicycle"} <= things
    assert things & {"car", "truck"}, "the pickup"
    await detector.close()


async def test_an_idle_detector_burns_no_cpu(ssdlite_dir: Path) -> None:
    detector = EmbeddedDetector(ssdlite_dir, threads=2)
    shown = decode(demo_picture("yard-1-01.jpg"), "yard")
    await detector.detect([shown])

    def cpu_seconds() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = cpu_seconds()
    await asyncio.sleep(0.5)
    assert cpu_seconds() - before < 0.1
    await detector.close()


@pytest.mark.parametrize("url", ["ftp://host", "host:8001", "redis://localhost"])
def test_a_url_that_names_no_detector(url: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="names no detector"):
        open_detector(url, DetectorOptions(tmp_path))
