"""Triton client: our detector against a bare tritonclient loop, on a real server.

The model on the server costs next to nothing, so what is compared is what the clients add. Both
begin with the same decoded 640 x 640 pictures, keep the same number of requests of the same size
under way on one channel, and take turns in many short rounds. Bare packs the pixels, calls
`infer`, and takes the three arrays out; ours adds limits, gathering, a deadline on both sides,
checks, and boxes by name, clipped and rounded, which no bare loop has. `prepared` sends one tensor
that was packed once, over and over: the rate that no client can beat.

The two of a pair run one right after the other, first the one and then the other, so that load on
the machine meets both; what is told is the median of the pairs' ratios and the interval in which
that median lies with 95 % (its order statistics: nothing is assumed about the noise).
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

from benchmarks.support import interval
from inference.ports import Picture
from inference.triton import TritonDetector, TritonOptions
from inference.triton_channel import connect

if TYPE_CHECKING:
    from support.triton import TritonServer

BATCH = 8
CONCURRENCY = 4
SIDE = 640
REQUESTS = 16
"""In one round: a tenth of a second, so that other work on the machine meets both of a pair."""
_OUTPUTS = ("labels", "boxes", "scores")
Request = Callable[[], Awaitable[object]]
Times = list[tuple[float, float]]
"""Seconds of each round: by the clock and of processor time."""
Taken = dict[str, Times]


def run(*, full: bool) -> dict[str, float]:
    """Return pictures a second of each contender and what ours takes longer than bare."""
    pairs = 240 if full else 60
    # The server is the tests': a wheel without containers, fetched once a machine.
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    from support.instant_model import MODEL, lay_out
    from support.triton import TritonServer, installed

    folder = Path(tempfile.mkdtemp(prefix="hsi-bench-"))
    lay_out(folder / "models", {1: "0.6"})
    server = TritonServer(installed(), folder, folder / "models")
    server.start()
    try:
        taken = asyncio.run(_rounds(server, MODEL, pairs))
    finally:
        server.stop()
        shutil.rmtree(folder)
    clock = _ratios(taken, 0)
    low, high = interval(clock)
    return {
        # The best round of each: other processes only ever take time away.
        **{f"{name}_pictures_per_s": _rate(times) for name, times in taken.items()},
        "overhead_percent": _percent(median(clock)),
        "overhead_low_percent": _percent(low),
        "overhead_high_percent": _percent(high),
        "ours_cpu_ms_per_request": _cpu_ms(taken["ours"]),
        "bare_cpu_ms_per_request": _cpu_ms(taken["bare"]),
        "overhead_cpu_percent": _percent(median(_ratios(taken, 1))),
        "batch": BATCH,
        "concurrency": CONCURRENCY,
        "pairs": pairs,
        "requests_per_round": REQUESTS,
    }


def _ratios(taken: Taken, which: int) -> list[float]:
    pairs = zip(taken["ours"], taken["bare"], strict=True)
    return [ours[which] / bare[which] for ours, bare in pairs]


def _rate(times: Times) -> float:
    return round(REQUESTS * BATCH / min(clock for clock, _ in times))


def _cpu_ms(times: Times) -> float:
    return round(1000 * median(used for _, used in times) / REQUESTS, 2)


def _percent(ratio: float) -> float:
    return round(100 * (ratio - 1), 1)


async def _rounds(server: "TritonServer", model: str, pairs: int) -> Taken:
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
    taken: Taken = {name: [] for name in contenders}
    try:
        for request in contenders.values():
            await _timed(request, CONCURRENCY * 4)
        for turn in range(pairs):
            for name in ("ours", "bare") if turn % 2 else ("bare", "ours"):
                taken[name].append(await _timed(contenders[name], REQUESTS))
            if turn % 8 == 0:
                taken["prepared"].append(await _timed(same, REQUESTS))
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
