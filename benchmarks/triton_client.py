"""Triton client: our detector against a bare tritonclient loop, on a real server.

The model on the server costs next to nothing, so what is compared is what the clients add. Both
begin with the same decoded 640 x 640 pictures, keep the same number of requests of the same size
under way on one channel, and take turns in short rounds. Bare packs the pixels, calls `infer`, and
takes the three arrays out; ours adds limits, gathering, a deadline on both sides, checks, and
boxes by name, clipped and rounded, which no bare loop has. `prepared` sends one tensor that was
packed once, over and over: the rate that no client can beat.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tritonclient.grpc import aio as grpc_aio

from inference.ports import Picture
from inference.triton import TritonDetector, TritonOptions
from inference.triton_channel import connect

if TYPE_CHECKING:
    from support.triton import TritonServer

BATCH = 8
CONCURRENCY = 4
SIDE = 640
_OUTPUTS = ("labels", "boxes", "scores")
Request = Callable[[], Awaitable[object]]


def run(*, full: bool) -> dict[str, float]:
    """Return pictures a second of each contender and what ours takes longer than bare."""
    rounds, requests = (40, 80) if full else (15, 40)
    # The server is the tests': a wheel without containers, fetched once a machine.
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    from support.instant_model import MODEL, lay_out
    from support.triton import TritonServer, installed

    folder = Path(tempfile.mkdtemp(prefix="hsi-bench-"))
    lay_out(folder / "models", {1: "0.6"})
    server = TritonServer(installed(), folder, folder / "models")
    server.start()
    try:
        taken = asyncio.run(_rounds(server, MODEL, rounds, requests))
    finally:
        server.stop()
        shutil.rmtree(folder)
    # The best round of each: other processes only ever take time away.
    best = {name: min(clock for clock, _ in times) for name, times in taken.items()}
    cpu = {name: 1000 * min(used for _, used in times) for name, times in taken.items()}
    pairs = [(ours[0], bare[0]) for ours, bare in zip(taken["ours"], taken["bare"], strict=True)]
    return {
        **{f"{name}_pictures_per_s": round(requests * BATCH / s) for name, s in best.items()},
        # The two of a pair ran one after the other: load on the machine meets both.
        "overhead_percent": _percent(median(ours / bare for ours, bare in pairs)),
        "overhead_best_percent": _percent(best["ours"] / best["bare"]),
        "ours_cpu_ms_per_request": round(cpu["ours"] / requests, 2),
        "bare_cpu_ms_per_request": round(cpu["bare"] / requests, 2),
        "overhead_cpu_percent": _percent(cpu["ours"] / cpu["bare"]),
        "batch": BATCH,
        "concurrency": CONCURRENCY,
        "rounds": rounds,
    }


def _percent(ratio: float) -> float:
    return round(100 * (ratio - 1), 1)


async def _rounds(
    server: "TritonServer", model: str, rounds: int, requests: int
) -> dict[str, list[tuple[float, float]]]:
    generator = np.random.default_rng(1)
    pictures = [
        Picture(generator.integers(0, 255, (SIDE, SIDE, 3), np.uint8), SIDE, SIDE, b"", f"{i}.jpg")
        for i in range(BATCH)
    ]
    detector = TritonDetector(server.url, TritonOptions(model=model, max_batch=BATCH))
    client = connect(server.url)
    prepared = _inputs(pictures)

    async def ours() -> object:
        return await detector.detect(pictures)

    async def bare() -> object:
        return await _infer(client, model, _inputs(pictures))

    async def same() -> object:
        return await _infer(client, model, prepared)

    contenders: dict[str, Request] = {"ours": ours, "bare": bare, "prepared": same}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    try:
        for request in contenders.values():
            await _timed(request, CONCURRENCY * 4)
        names = list(contenders)
        for turn in range(rounds):
            for name in names[turn % 3 :] + names[: turn % 3]:
                taken[name].append(await _timed(contenders[name], requests))
    finally:
        await detector.close()
        await client.close()
    return taken


async def _timed(request: Request, requests: int) -> tuple[float, float]:
    """Return the seconds that so many requests take, CONCURRENCY at a time; of clock and CPU."""
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await request()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return time.perf_counter() - began, time.process_time() - used


def _inputs(pictures: list[Picture]) -> list[grpc_aio.InferInput]:
    images = np.empty((len(pictures), 3, SIDE, SIDE), np.uint8)
    for planes, picture in zip(images, pictures, strict=True):
        cv2.split(picture.rgb, list(planes))
    sizes = np.array([(picture.width, picture.height) for picture in pictures], np.int64)
    inputs = [
        grpc_aio.InferInput("images", images.shape, "UINT8"),
        grpc_aio.InferInput("orig_target_sizes", sizes.shape, "INT64"),
    ]
    inputs[0].set_data_from_numpy(images)
    inputs[1].set_data_from_numpy(sizes)
    return inputs


async def _infer(
    client: grpc_aio.InferenceServerClient, model: str, inputs: list[grpc_aio.InferInput]
) -> list[object]:
    outputs = [grpc_aio.InferRequestedOutput(name) for name in _OUTPUTS]
    result = await client.infer(model, inputs, outputs=outputs)
    return [result.as_numpy(name) for name in _OUTPUTS]
