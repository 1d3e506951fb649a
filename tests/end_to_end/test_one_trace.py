"""One picture, one trace: from the file seen to the client told, across real processes."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

from aiohttp import ClientSession, ClientWebSocketResponse
from support.collector import Collected, Collector, collecting
from support.installation import Installation, installed
from support.models import demo_picture
from support.watching import eventually

WAY = {"file seen", "detect", "join batch", "batch", "assess", "project", "push"}


async def told(socket: ClientWebSocketResponse, camera: str) -> None:
    """Wait until the socket tells of an event of a camera whose batch is closed."""
    while True:
        message = await socket.receive_json(timeout=60)
        data = message["data"] if message["type"] == "event" else {}
        if (data.get("camera_id"), data.get("stage")) == (camera, "final"):
            return


def trace_of(found: Collector, camera: str) -> list[Collected]:
    """Return the one trace in which a camera is spoken of."""
    (trace,) = [t for t in found.traces().values() if t[0].attributes["hsi.camera_id"] == camera]
    return trace


async def _whole(found: Collector, camera: str) -> list[Collected]:
    def is_there() -> bool:
        spans = [s for s in found.spans if s.attributes["hsi.camera_id"] == camera]
        ids = {s.span_id for s in spans}
        parents = {s.parent_id for s in spans if s.parent_id}
        return {s.name for s in spans} >= WAY and parents <= ids

    async def asked() -> bool:
        return is_there()

    await eventually(asked, seconds=40)
    return trace_of(found, camera)


def _the_same_when_sent_again(found: Collector) -> None:
    # A killed exporter may have been answered without noting it: it sends that run once more.
    spans: dict[tuple[str, str], Collected] = {}
    for span in found.spans:
        known = spans.setdefault((span.trace_id, span.span_id), span)
        assert known == replace(span, instance=known.instance)
    assert max(found.times().values()) <= 2


async def test_from_the_file_to_the_push_and_through_a_kill(
    state_folder: Path, ssdlite_dir: Path
) -> None:
    with (
        collecting() as (found, url),
        installed(
            state_folder,
            HSI_MODELS_DIR=str(ssdlite_dir),
            BATCH_IDLE_TIMEOUT_SECONDS="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_SERVICE_NAME="house",
        ) as installation,
    ):
        await asyncio.to_thread(installation.start)
        async with ClientSession(installation.base_url) as session:
            socket = await session.ws_connect("/ws/events")
            await _one_trace(installation, found, socket)
            await _kill_and_go_on(installation, found, socket)
            await _collector_away(installation, found, socket)
            await socket.close()
        assert await asyncio.to_thread(installation.stop) == 0


async def _one_trace(
    installation: Installation, found: Collector, socket: ClientWebSocketResponse
) -> None:
    installation.drop("front", "MDAlarm_1.jpg", demo_picture("yard-1-01.jpg"))
    await told(socket, "front")
    trace = await _whole(found, "front")
    ids = {span.span_id for span in trace}
    (root,) = [span for span in trace if not span.parent_id]
    assert root.name == "file seen"
    assert all(span.parent_id in ids for span in trace if span is not root)
    assert {span.role for span in trace} == {"traces", "project", "api"}
    assert len({span.instance for span in trace}) >= 2
    assert all(span.start_ns <= span.end_ns and span.service == "house" for span in trace)
    # The order in which things happened is that of the times.
    ends = {span.name: span.end_ns for span in trace}
    assert root.end_ns <= ends["detect"] <= ends["join batch"] <= ends["batch"] <= ends["assess"]
    assert ends["assess"] <= ends["push"]
    assert max(found.times().values()) == 1


async def _kill_and_go_on(
    installation: Installation, found: Collector, socket: ClientWebSocketResponse
) -> None:
    os.kill(installation.pids["project"], signal.SIGKILL)
    installation.drop("back", "MDAlarm_2.jpg", demo_picture("yard-1-04.jpg"))
    await told(socket, "back")
    await _whole(found, "back")
    _the_same_when_sent_again(found)


async def _collector_away(
    installation: Installation, found: Collector, socket: ClientWebSocketResponse
) -> None:
    found.closed.set()
    installation.drop("side", "MDAlarm_3.jpg", demo_picture("yard-1-07.jpg"))
    await told(socket, "side")
    assert installation.get("/api/system/health")["status"] in ("healthy", "degraded")
    found.closed.clear()
    await _whole(found, "side")
    _the_same_when_sent_again(found)
