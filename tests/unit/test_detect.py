"""The detect role: one answer a picture, and nothing is ever passed off as an empty picture."""

import io

import numpy as np
import pytest
from PIL import Image
from support.logs import NOON, box, received, rejected

from agents.detect import Detect
from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.events import Event, ObjectsDetected, PictureFiltered
from domain.outcomes import Done, Outcome, Park, Retry
from inference.ports import Detected, ModelIdentity, Picture
from streams.envelope import Envelope, Position

IDENTITY = ModelIdentity("rt-detr", "2", "embedded")


def jpeg(shade: int = 10) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), shade, np.uint8)).save(target, "JPEG")
    return target.getvalue()


class Pictures:
    """Pictures by URI; an error is raised instead of its picture."""

    def __init__(self, **broken: bytes | Exception) -> None:
        self.broken = broken

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        name = uri.rpartition("/")[2].removesuffix(".jpg")
        found = self.broken.get(name, jpeg())
        if isinstance(found, Exception):
            raise found
        return found


class Cameras:
    """Every camera is enabled but one."""

    def enabled(self, camera_id: str) -> bool:
        return camera_id != "off"


class ScriptedDetector:
    """A detector that sees a car in every picture, two at a time, or raises."""

    max_batch = 2

    def __init__(self, error: Exception | None = None, refuses: str = "") -> None:
        self.error = error
        self.refuses = refuses
        self.calls: list[list[str]] = []

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        names = [picture.name for picture in pictures]
        self.calls.append(names)
        if self.error is not None:
            raise self.error
        if any(self.refuses and self.refuses in name for name in names):
            raise PermanentError("a picture of this call is refused")
        return [Detected((box("car", 0.7), box("dog", 0.06)), IDENTITY, 3.0) for _ in pictures]

    async def check(self) -> ModelIdentity:
        return IDENTITY

    async def close(self) -> None:
        return


def envelopes(*events: Event) -> list[Envelope]:
    return [
        Envelope(f"e{n}", event, "files", 0, Position(n, 0), NOON, "c", "")
        for n, event in enumerate(events)
    ]


def seen(outcome: Outcome) -> ObjectsDetected:
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, ObjectsDetected)
    return event


async def test_every_picture_gets_its_answer_and_other_events_pass_by() -> None:
    detector = ScriptedDetector()
    handler = Detect(detector, Pictures(), Cameras(), 0.5)
    events = envelopes(received("a"), rejected("x"), received("b"), received("c"))
    first, other, *rest = await handler(events)
    assert other == Done(passed_by=True)
    assert [len(call) for call in detector.calls] == [2, 1]
    event = seen(first)
    assert [e.picture_id for e in (event, *map(seen, rest))] == ["a", "b", "c"]
    assert (event.width, event.height, event.threshold) == (64, 48, 0.5)
    assert [b.score for b in event.boxes] == [0.7, 0.06]
    assert (event.model, event.model_version, event.engine) == ("rt-detr", "2", "embedded")


@pytest.mark.parametrize(
    "error", [ServiceUnavailableError("detector", "away"), TransientError("x")]
)
async def test_a_model_that_does_not_answer_is_never_an_empty_picture(error: Exception) -> None:
    handler = Detect(ScriptedDetector(error), Pictures(), Cameras(), 0.5)
    with pytest.raises(type(error)):
        await handler(envelopes(received("a")))


async def test_one_bad_picture_spares_the_others_of_its_run() -> None:
    gone, busy = PermanentError("gone"), TransientError("busy", retry_after=2.0)
    pictures = Pictures(gone=gone, busy=busy, junk=b"junk")
    outcomes = await Detect(ScriptedDetector(), pictures, Cameras(), 0.5)(
        envelopes(received("gone"), received("busy"), received("junk"), received("good"))
    )
    assert outcomes[0] == Park(gone)
    assert outcomes[1] == Retry(busy, 2.0)
    assert isinstance(outcomes[2], Park)
    assert seen(outcomes[3]).picture_id == "good"


async def test_a_refused_call_is_asked_again_picture_by_picture() -> None:
    detector = ScriptedDetector(refuses="odd")
    outcomes = await Detect(detector, Pictures(), Cameras(), 0.5)(
        envelopes(received("odd"), received("good"))
    )
    assert isinstance(outcomes[0], Park)
    assert seen(outcomes[1]).picture_id == "good"
    assert [len(call) for call in detector.calls] == [2, 1, 1]


async def test_a_disabled_camera_is_filtered_and_never_shown_to_the_model() -> None:
    detector = ScriptedDetector()
    handler = Detect(detector, Pictures(), Cameras(), 0.5)
    (outcome,) = await handler(envelopes(received("a", "off")))
    assert isinstance(outcome, Done)
    (event,) = outcome.events
    assert isinstance(event, PictureFiltered)
    assert detector.calls == []
