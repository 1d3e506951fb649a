"""The /detect service: its contract to the letter, its limits, and what it says when it cannot."""

import asyncio
import base64
import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support import detect_service
from support.detect_process import DetectProcess, detect_process, start
from support.models import demo_picture

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.events import Box
from inference.detect_requests import Limits
from inference.detect_server import DetectService
from inference.http_detector import HttpDetector
from inference.images import decode
from inference.ports import Detected, ModelIdentity, Picture

PORCH = demo_picture("porch-1-01.jpg")
YARD = demo_picture("yard-1-01.jpg")
IDENTITY = ModelIdentity("stub", "7", "triton", fallback=False)
BOXES = (
    Box(label="dog", score=0.9, x=1.5, y=2, width=30, height=40),
    Box(label="horse", score=0.8, x=1, y=2, width=30, height=40),
    Box(label="person", score=0.06, x=5, y=6, width=7, height=8),
)


@dataclass
class StubDetector:
    """Sees the same in every picture; can fail, and can be held up."""

    error: HsiError | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[int] = field(default_factory=list)
    max_batch: int = 3

    def __post_init__(self) -> None:
        self.go_on.set()

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        self.asked.append(len(pictures))
        await self.go_on.wait()
        await self.check()
        return [Detected(BOXES, IDENTITY, 12.5) for _ in pictures]

    async def check(self) -> ModelIdentity:
        if self.error is not None:
            raise self.error
        return IDENTITY

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def client(
    detector: StubDetector, limits: Limits | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the detector and return a session whose base is the service."""
    app = DetectService(detector, limits or Limits()).application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(base) as session:
            yield session
    finally:
        await runner.cleanup()


def form(*pictures: bytes, name: str = "file") -> aiohttp.FormData:
    data = aiohttp.FormData()
    for number, picture in enumerate(pictures, 1):
        data.add_field(name, picture, filename=f"{number}.jpg", content_type="image/jpeg")
    return data


def encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


# --- the contract ---------------------------------------------------------------------------


async def test_an_answer_has_the_contract_s_fields_and_classes() -> None:
    wanted = {
        "detections": [
            {
                "class": "dog",
                "confidence": 0.9,
                "bbox": {"x": 1.5, "y": 2.0, "width": 30.0, "height": 40.0},
            },
            {
                "class": "person",
                "confidence": 0.06,
                "bbox": {"x": 5.0, "y": 6.0, "width": 7.0, "height": 8.0},
            },
        ],
        "inference_time_ms": 12.5,
        "image_width": 768,
        "image_height": 576,
    }
    async with client(StubDetector()) as http:
        for body in ({"data": form(PORCH)}, {"json": {"image_base64": encoded(PORCH)}}):
            async with http.post("/detect", **body) as response:
                assert response.status == 200
                assert response.content_type == "application/json"
                assert await response.json() == wanted
        async with http.post("/detect?min_confidence=0.5", data=form(PORCH)) as response:
            found = (await response.json())["detections"]
    assert [detection["class"] for detection in found] == ["dog"]


async def test_a_batch_is_a_list_in_the_order_sent_and_asked_in_parts() -> None:
    detector = StubDetector()
    sent = [PORCH, demo_picture("porch-1-02.jpg"), YARD, YARD, PORCH]
    bodies: list[dict[str, Any]] = [
        {"data": form(*sent)},
        {"data": form(*sent, name="files")},
        {"json": {"images_base64": [encoded(picture) for picture in sent]}},
    ]
    async with client(detector) as http:
        for body in bodies:
            async with http.post("/detect/batch", **body) as response:
                assert response.status == 200
                answers = await response.json()
            assert [answer["image_width"] for answer in answers] == [768, 640, 768, 768, 768]
    assert detector.asked == [3, 2] * 3


async def test_health_says_who_answers_and_null_for_what_it_cannot_know() -> None:
    detector = StubDetector()
    async with client(detector) as http:
        async with http.get("/health") as response:
            assert response.status == 200
            assert await response.json() == {
                "status": "healthy",
                "model_loaded": True,
                "device": "unknown",
                "cuda_available": None,
                "vram_used_gb": None,
                "model": "stub",
                "version": "7",
                "engine": "triton",
                "fallback": False,
                "detail": None,
            }
        detector.error = ServiceUnavailableError("detector", "Triton is away")
        async with http.get("/health") as response:
            assert response.status == 503
            told = await response.json()
    assert (told["status"], told["model_loaded"]) == ("unhealthy", False)
    assert "Triton is away" in told["detail"]


# --- failures -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/detect", "/detect/batch"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServiceUnavailableError("detector", "the model is away", retry_after=4), 503),
        (TransientError("the model is away for a moment"), 503),
        (PermanentError("the model is away from numbers"), 422),
    ],
)
async def test_a_failure_is_never_an_empty_list(path: str, error: HsiError, status: int) -> None:
    async with client(StubDetector(error)) as http, http.post(path, data=form(PORCH)) as response:
        assert response.status == status
        assert "the model is away" in (await response.json())["detail"]
        waits = {"the model is away": "4", "the model is away for a moment": "1"}
        assert response.headers.get("Retry-After") == waits.get(str(error))


def bomb(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", b""), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


SMALL = Limits(picture_bytes=200_000, batch_bytes=300_000, batch_pictures=3)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        pytest.param("/detect", {"data": form(b"no picture")}, 422, "1.jpg is neither", id="text"),
        pytest.param("/detect", {"data": form(PORCH[:9000])}, 422, "cut off", id="cut"),
        pytest.param(
            "/detect", {"data": form(bomb(10_000))}, 422, "limit of 64 megapixels", id="bomb"
        ),
        pytest.param(
            "/detect", {"data": form(bytes(200_001))}, 413, "limit of 200000 bytes", id="bytes"
        ),
        pytest.param(
            "/detect",
            {"json": {"image_base64": encoded(bytes(200_001))}},
            413,
            "limit of 200000 bytes",
            id="bytes in base64",
        ),
        pytest.param(
            "/detect",
            {"json": {"image_base64": "A" * 900_000}},
            413,
            "limit of 200000 bytes",
            id="long JSON",
        ),
        pytest.param("/detect", {"data": form(PORCH, PORCH)}, 413, "/detect/batch", id="two"),
        pytest.param("/detect", {"data": {"x": "1"}}, 415, "is not taken", id="no multipart"),
        pytest.param("/detect", {"data": form(PORCH, name="y")}, 400, "field `file`", id="field"),
        pytest.param("/detect", {"json": {"image": "x"}}, 400, "image_base64", id="JSON field"),
        pytest.param("/detect", {"json": {"image_base64": "%"}}, 400, "no base64", id="base64"),
        pytest.param("/detect", {"json": {"image_base64": ""}}, 422, "it is empty", id="empty"),
        pytest.param(
            "/detect",
            {
                "data": b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
                "headers": {"Content-Type": "application/json"},
            },
            400,
            "the JSON body is not as it should be",
            id="deep JSON",
        ),
        pytest.param(
            "/detect",
            {"data": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "form is broken",
            id="no boundary",
        ),
        pytest.param(
            "/detect",
            {
                "data": b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc",
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            400,
            "form is broken",
            id="form without end",
        ),
        pytest.param(
            "/detect",
            {
                "data": b"--b\r\nX: " + b"y" * 20_000 + b"\r\n\r\nabc\r\n--b--\r\n",
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            400,
            "the body cannot be read",
            id="endless head of a part",
        ),
        pytest.param("/detect?min_confidence=nan", {"data": form(PORCH)}, 400, "0 to 1", id="nan"),
        pytest.param("/detect?min_confidence=2", {"data": form(PORCH)}, 400, "0 to 1", id="above"),
        pytest.param(
            "/detect/batch", {"data": form(PORCH, b"odd")}, 422, "2.jpg is neither", id="one odd"
        ),
        pytest.param("/detect/batch", {"data": form(*[b"x"] * 4)}, 413, "at most 3", id="many"),
        pytest.param(
            "/detect/batch",
            {"data": form(bytes(190_000), bytes(190_000))},
            413,
            "limit of 300000 bytes",
            id="batch bytes",
        ),
        pytest.param(
            "/detect/batch", {"json": {"images_base64": []}}, 400, "no picture", id="none"
        ),
        pytest.param("/nowhere", {"data": form(PORCH)}, 404, "Not Found", id="path"),
        pytest.param("/health", {"data": form(PORCH)}, 405, "Method Not Allowed", id="method"),
    ],
)
async def test_what_is_refused_says_why_and_the_service_goes_on(
    path: str, body: dict[str, Any], status: int, said: str
) -> None:
    detector = StubDetector()
    async with client(detector, SMALL) as http:
        async with http.post(path, **body) as response:
            assert response.status == status
            assert said in (await response.json())["detail"]
        assert detector.asked == []
        async with http.post("/detect", data=form(PORCH)) as response:
            assert response.status == 200


async def test_pictures_that_do_not_arrive_are_not_waited_for_for_ever() -> None:
    async with client(StubDetector(), Limits(body_seconds=0.1)) as http:

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"image_base64": "'
            await asyncio.sleep(5)

        headers = {"Content-Type": "application/json"}
        async with http.post("/detect", data=slowly(), headers=headers) as response:
            assert response.status == 408
            assert "within 0.1 s" in (await response.json())["detail"]


async def test_a_small_body_that_unpacks_to_a_large_one_is_cut_at_the_limit() -> None:
    packed = gzip.compress(b'{"image_base64": "' + b"A" * 50_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with (
        client(StubDetector(), SMALL) as http,
        http.post("/detect", data=packed, headers=headers) as response,
    ):
        assert response.status == 413
        assert "limit of 200000 bytes" in (await response.json())["detail"]


# --- load -----------------------------------------------------------------------------------


async def test_places_are_bounded_and_the_rest_waits_or_is_sent_away() -> None:
    detector = StubDetector()
    detector.go_on.clear()
    async with client(detector, Limits(at_once=2, waiting=3)) as http:

        async def ask() -> tuple[int, str | None]:
            async with http.post("/detect", data=form(PORCH)) as response:
                await response.read()
                return response.status, response.headers.get("Retry-After")

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        async with asyncio.timeout(20):
            done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [(503, "1")]
        await until(lambda: len(detector.asked) == 2)
        async with http.get("/health") as response:
            assert response.status == 200
        assert len(detector.asked) == 2
        detector.go_on.set()
        assert await asyncio.gather(*waiting) == [(200, None)] * 3
        assert await ask() == (200, None)


async def test_many_at_once_are_all_answered_each_with_its_own(
    served_detector: DetectProcess,
) -> None:
    pictures = [("dog", PORCH), ("person", YARD)] * 8
    async with aiohttp.ClientSession(served_detector.url) as http:

        async def ask(label: str, picture: bytes) -> bool:
            async with http.post("/detect?min_confidence=0.6", data=form(picture)) as response:
                found = (await response.json())["detections"]
                return label in {detection["class"] for detection in found}

        assert all(await asyncio.gather(*(ask(*picture) for picture in pictures)))
        async with http.get("/health") as response:
            told = await response.json()
    assert (told["device"], told["cuda_available"]) == ("cpu", False)
    assert (told["model"], told["fallback"]) == ("ssdlite-mobilenetv2", True)


# --- the process ----------------------------------------------------------------------------


async def test_our_adapter_reaches_a_service_behind_a_service_and_knows_the_fallback(
    served_detector: DetectProcess, tmp_path: Path
) -> None:
    with detect_process(tmp_path, RTDETR_URL=served_detector.url) as second:
        detector = HttpDetector(second.url)
        (found,) = await detector.detect([decode(PORCH, "porch.jpg")])
        await detector.close()
    assert {"dog", "bicycle"} <= {box.label for box in found.boxes if box.score >= 0.5}
    assert found.identity == ModelIdentity("ssdlite-mobilenetv2", "tfjs-1.0.6", "http", True)
    assert min(box.score for box in found.boxes) < 0.3


async def test_a_stopping_service_finishes_what_it_has_and_takes_no_more(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def detect(request: web.Request) -> web.Response:
        await request.read()
        arrived.set()
        await go_on.wait()
        told = {"detections": [], "inference_time_ms": 1, "image_width": 9, "image_height": 9}
        return web.json_response(told)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"model_loaded": True})

    async with detect_service.serve(detect, health) as slow:
        starting = detect_process(tmp_path, "--detector", slow)
        running = await asyncio.to_thread(starting.__enter__)
        try:
            async with aiohttp.ClientSession(running.url) as http:
                asking = asyncio.create_task(http.post("/detect", data=form(PORCH)))
                async with asyncio.timeout(20):
                    await arrived.wait()
                running.terminate()
                await until(lambda: "takes no more" in running.said)
                with pytest.raises(aiohttp.ClientConnectionError):
                    async with aiohttp.ClientSession(running.url) as other:
                        await other.get("/health")
                # Long enough for a service that only pretends to wait to have hung up.
                await asyncio.sleep(0.3)
                go_on.set()
                async with await asking as response:
                    assert response.status == 200
                    assert (await response.json())["detections"] == []
            assert await asyncio.to_thread(running.wait) == 0
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)


async def test_a_detector_that_is_away_at_the_start_is_a_503_until_it_comes(
    tmp_path: Path,
) -> None:
    with detect_process(tmp_path, "--detector", "grpc://127.0.0.1:9") as running:
        assert "answers 503 until its detector does" in running.said
        async with aiohttp.ClientSession(running.url) as http:
            async with http.post("/detect", data=form(PORCH)) as response:
                assert response.status == 503
            async with http.get("/health") as response:
                assert response.status == 503


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        pytest.param((), {}, "hsi models fetch detector", id="no model"),
        pytest.param(("--detector", "ftp://x"), {}, "names no detector", id="odd URL"),
        pytest.param(
            ("--port", "9999"),
            {"RTDETR_URL": "http://localhost:9999"},
            "RTDETR_URL names this service itself",
            id="itself",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_said(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    output = tmp_path / "output.txt"
    empty = {"HSI_MODELS_DIR": str(tmp_path / "models"), **environ}
    assert start(tmp_path, output, *options, **empty).wait(60) == 1
    assert said in output.read_text()
    assert "Traceback" not in output.read_text()


def test_a_taken_port_is_named(served_detector: DetectProcess, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    port = served_detector.url.rsplit(":", 1)[1]
    process = start(tmp_path, output, "--detector", served_detector.url, "--port", port)
    assert process.wait(60) == 1
    assert f"cannot listen at 127.0.0.1 port {port}" in output.read_text()


def test_the_ready_file_names_address_and_process(served_detector: DetectProcess) -> None:
    told = json.loads((served_detector.output.parent / "ready.json").read_text())
    assert told == {"url": served_detector.url, "pid": served_detector.process.pid}
