"""What every Detector promises, run on each adapter with a real network behind it.

Embedded: the fall-back detector. HTTP: `hsi serve detector`, a process of its own that runs it.
Triton: a real server with triton_models/ and a stand-in around the same network.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.detect_process import DetectProcess
from support.models import demo_picture
from support.triton import TritonServer

from domain.errors import ServiceUnavailableError
from inference.detectors import DetectorOptions, open_detector
from inference.images import decode
from inference.labels import COCO_LABELS
from inference.ports import BOX_FLOOR, Detector, Picture

ADAPTERS = ("embedded", "http", "triton")


@dataclass(frozen=True)
class Case:
    """An adapter that works, and one whose model is not there."""

    engine: str
    detector: Detector
    away: Detector


@pytest.fixture(params=ADAPTERS)
async def case(request: pytest.FixtureRequest, ssdlite_dir: Path) -> AsyncIterator[Case]:
    engine: str = request.param
    url, away_url = None, None
    if engine == "http":
        service: DetectProcess = request.getfixturevalue("served_detector")
        url, away_url = service.url, "http://127.0.0.1:9"
    elif engine == "triton":
        server: TritonServer = request.getfixturevalue("triton_server")
        url, away_url = server.url, "grpc://127.0.0.1:9"
    detector = open_detector(url, DetectorOptions(ssdlite_dir))
    away = open_detector(away_url, DetectorOptions(ssdlite_dir / "nowhere"))
    yield Case(engine, detector, away)
    await detector.close()
    await away.close()


def picture(name: str) -> Picture:
    return decode(demo_picture(name), name)


def blank() -> Picture:
    encoded = cv2.imencode(".png", np.full((480, 640, 3), 127, np.uint8))[1].tobytes()
    return decode(encoded, "blank.png")


async def test_people_are_found_where_they_are(case: Case) -> None:
    (answer,) = await case.detector.detect([picture("yard-3-08.jpg")])
    people = [box for box in answer.boxes if box.label == "person" and box.score >= 0.5]
    assert len(people) >= 6
    # The man in the black coat on the lawn, measured by eye in the 768 x 576 picture.
    on_lawn = [box for box in people if 40 < box.x < 70 and 235 < box.y < 265]
    assert on_lawn
    assert all(25 < box.width < 60 and 75 < box.height < 110 for box in on_lawn)


async def test_answers_keep_the_port_s_rules(case: Case) -> None:
    shown = picture("porch-1-01.jpg")
    (answer,) = await case.detector.detect([shown])
    assert {"dog", "bicycle"} <= {box.label for box in answer.boxes if box.score >= 0.5}
    scores = [box.score for box in answer.boxes]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > BOX_FLOOR
    assert scores[-1] < 0.5, "boxes below any threshold are kept too"
    assert all(box.label in COCO_LABELS for box in answer.boxes)
    for box in answer.boxes:
        assert min(box.x, box.y) >= 0
        assert box.x + box.width <= shown.width + 0.01
        assert box.y + box.height <= shown.height + 0.01
    assert answer.inference_ms > 0


async def test_every_answer_says_which_model_gave_it(case: Case) -> None:
    (answer,) = await case.detector.detect([blank()])
    assert answer.identity == await case.detector.check()
    assert answer.identity.engine == case.engine
    assert answer.identity.model
    assert answer.identity.version


async def test_many_pictures_are_answered_in_their_order(case: Case) -> None:
    shown = [blank(), picture("porch-1-01.jpg"), blank(), picture("yard-1-01.jpg"), blank()]
    answers = await case.detector.detect(shown * 4)
    assert len(answers) == 20
    seen = [{box.label for box in answer.boxes if box.score >= 0.6} for answer in answers[:5]]
    assert seen[0] == seen[2] == seen[4] == set()
    assert "dog" in seen[1]
    assert "person" in seen[3]
    assert "person" not in seen[1]


async def test_boxes_are_in_pixels_of_the_file_however_it_was_decoded(case: Case) -> None:
    small = cv2.imdecode(np.frombuffer(demo_picture("porch-1-01.jpg"), np.uint8), 1)
    large = cv2.imencode(".jpg", cv2.resize(small, (3072, 2304)))[1].tobytes()
    shown = decode(large, "large.jpg")
    assert shown.rgb.shape == (576, 768, 3)
    (answer,) = await case.detector.detect([shown])
    (dog,) = [box for box in answer.boxes if box.label == "dog" and box.score >= 0.75][:1]
    assert (dog.x, dog.y) == pytest.approx((4 * 130, 4 * 210), abs=60)
    assert (dog.width, dog.height) == pytest.approx((4 * 185, 4 * 320), rel=0.15)


async def test_no_model_is_an_error_that_names_the_way_out(case: Case) -> None:
    for ask in (case.away.check, lambda: case.away.detect([blank()])):
        with pytest.raises(ServiceUnavailableError) as caught:
            await ask()
        assert caught.value.service == "detector"
        way_out = {"embedded": "hsi models fetch"}.get(case.engine, "127.0.0.1:9")
        assert way_out in str(caught.value)


async def test_closing_twice_is_fine(case: Case) -> None:
    await case.detector.check()
    await case.detector.close()
    await case.detector.close()
