"""The /detect adapter against a service that misbehaves: every answer has its class of error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import BodyPartReader, web
from support.detect_service import Handler, serve, using
from support.models import demo_picture

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from inference.http_detector import HttpDetector
from inference.images import decode
from inference.ports import Picture

HEALTHY = {"status": "healthy", "model_loaded": True, "device": "cuda:0", "vram_used_gb": 3.9}
ANSWER = {
    "detections": [
        {"class": "dog", "confidence": 0.4, "bbox": {"x": 5, "y": 6, "width": 7, "height": 8}},
        {
            "class": "person",
            "confidence": 0.9,
            "bbox": {"x": -10, "y": 200, "width": 110, "height": 600},
        },
        {"class": "car", "confidence": 0.8, "bbox": {"x": 9e9, "y": 0, "width": 9, "height": 9}},
    ],
    "inference_time_ms": 12.5,
    "image_width": 768,
    "image_height": 576,
}


Answerer = Callable[[web.Request], web.Response]


def picture(name: str = "porch.jpg") -> Picture:
    return decode(demo_picture("porch-1-01.jpg"), name)


def always(body: object, status: int = 200) -> Answerer:
    """Return an answer of plain JSON, or of text as it is."""
    if isinstance(body, str):
        return lambda _: web.Response(text=body, status=status)
    return lambda _: web.json_response(body, status=status)


GOOD = always(ANSWER)
READY = always(HEALTHY)


@asynccontextmanager
async def service(
    detect: Answerer = GOOD, health: Answerer = READY
) -> AsyncIterator[HttpDetector]:
    async def on_detect(request: web.Request) -> web.Response:
        await request.read()
        return detect(request)

    async def on_health(request: web.Request) -> web.Response:
        return health(request)

    async with serve(on_detect, on_health) as url, using(HttpDetector(url + "/")) as detector:
        yield detector


async def test_a_good_answer_is_sorted_scaled_and_clipped() -> None:
    halved = {**ANSWER, "image_width": 384, "image_height": 288}
    for answer, scale in ((ANSWER, 1), (halved, 2)):
        async with service(always(answer)) as detector:
            (found,) = await detector.detect([picture()])
        person, dog = found.boxes
        assert (person.label, person.score) == ("person", 0.9)
        assert (person.x, person.width) == (0, 100 * scale)
        assert person.y + person.height == 576
        assert (dog.x, dog.y, dog.width, dog.height) == tuple(
            scale * side for side in (5, 6, 7, 8)
        )
        assert found.inference_ms == 12.5
        assert (found.identity.model, found.identity.version) == ("remote", "unreported")


async def test_the_file_travels_as_it_lies_there_under_a_harmless_name() -> None:
    sent: list[tuple[str | None, str | None, bytes]] = []

    async def detect(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        sent.append((part.name, part.headers.get("Content-Type"), bytes(await part.read())))
        return web.json_response(ANSWER)

    async def health(_: web.Request) -> web.Response:
        return web.json_response(HEALTHY)

    async with serve(detect, health) as url, using(HttpDetector(url)) as detector:
        await detector.detect([picture('a"\r\nX-Evil: 1\udcff.jpg')])
    assert sent == [("file", "image/jpeg", demo_picture("porch-1-01.jpg"))]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_refused_picture_is_permanent(status: int) -> None:
    async with service(always({"detail": "cannot identify image file"}, status)) as detector:
        with pytest.raises(PermanentError, match=rf"porch.jpg was refused.*{status}.*identify"):
            await detector.detect([picture()])


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 429, 500, 502, 503])
async def test_what_is_not_the_picture_s_fault_pauses_the_stage(status: int) -> None:
    async with service(always({"detail": "no"}, status)) as detector:
        with pytest.raises(ServiceUnavailableError, match=str(status)) as caught:
            await detector.detect([picture()])
    assert caught.value.service == "detector"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<html>hello</html>", id="not json"),
        pytest.param([], id="a list"),
        pytest.param({"error": "model failed"}, id="an error with status 200"),
        pytest.param({**ANSWER, "detections": None}, id="no list"),
        pytest.param({**ANSWER, "image_width": 0}, id="no width"),
        pytest.param('{"detections": [{"class": "dog", "confidence": NaN}]}', id="not a number"),
        pytest.param(
            {
                **ANSWER,
                "detections": [
                    {
                        "class": "dog",
                        "confidence": 7,
                        "bbox": {"x": 0, "y": 0, "width": 1, "height": 1},
                    }
                ],
            },
            id="score above one",
        ),
        pytest.param(
            {
                **ANSWER,
                "detections": [
                    {
                        "class": "<|im_start|>",
                        "confidence": 0.9,
                        "bbox": {"x": 0, "y": 0, "width": 1, "height": 1},
                    }
                ],
            },
            id="a label that is none",
        ),
        pytest.param(" " * 2_000_000, id="endless"),
        pytest.param('{"x":' + "[" * 50_000 + "]" * 50_000 + "}", id="deep"),
    ],
)
async def test_an_answer_that_breaks_the_contract_is_never_an_empty_list(body: object) -> None:
    async with service(always(body)) as detector:
        with pytest.raises(TransientError, match=r"breaks the /detect contract|answers more than"):
            await detector.detect([picture()])


async def test_an_unready_service_is_away_and_asked_again() -> None:
    health = [{**HEALTHY, "model_loaded": False, "status": "loading"}, HEALTHY]
    async with service(health=lambda _: web.json_response(health.pop(0))) as detector:
        with pytest.raises(ServiceUnavailableError, match="no model is loaded"):
            await detector.detect([picture()])
        assert len(await detector.detect([picture()])) == 1


async def test_a_service_that_stalls_is_given_up_in_time() -> None:
    async def stall(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    async def health(_: web.Request) -> web.Response:
        return web.json_response(HEALTHY)

    async with (
        serve(stall, health) as url,
        using(
            HttpDetector(url, connect_timeout=2, read_timeout=0.3, health_timeout=2)
        ) as detector,
    ):
        await detector.check()
        began = asyncio.get_running_loop().time()
        with pytest.raises(ServiceUnavailableError, match="timeout"):
            await detector.detect([picture()])
        assert asyncio.get_running_loop().time() - began < 2


async def test_a_service_that_goes_away() -> None:
    async with serve(*plain()) as url:
        detector = HttpDetector(url)
        await detector.detect([picture()])
    async with using(detector):
        with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
            await detector.detect([picture()])


def plain() -> tuple[Handler, Handler]:
    """Return handlers that read their request and answer well."""

    async def detect(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(ANSWER)

    async def health(_: web.Request) -> web.Response:
        return web.json_response(HEALTHY)

    return detect, health
