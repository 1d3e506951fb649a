"""`hsi models bench`: how many pictures a second a detector manages, and how long each waits."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from domain.errors import HsiError, PermanentError
from hsi.demo import PICTURES
from hsi.models.bench_chart import bar, svg
from inference.detectors import DetectorOptions, open_detector
from inference.images import decode
from inference.ports import Detector, ModelIdentity, Picture
from runtime.settings import Settings, load_settings

LONGEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one batch and concurrency."""

    batch: int
    """Pictures in one call."""
    concurrency: int
    """Calls under way at the same time."""
    pictures: int
    pictures_per_s: float
    p50_ms: float
    """Of one call, from the decoded pictures to their boxes."""
    p95_ms: float
    p99_ms: float


def bench(
    url: Annotated[
        str | None, typer.Option(help="Which detector; else RTDETR_URL, else the embedded one.")
    ] = None,
    batches: Annotated[str, typer.Option(help="Pictures a call, as a list.")] = "1,4,8,16",
    concurrency: Annotated[str, typer.Option(help="Calls at the same time, as a list.")] = "1,2,4",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=LONGEST_SECONDS, help="How long for each of them.")
    ] = 3.0,
    chart: Annotated[Path | None, typer.Option(help="Write a chart into this SVG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure throughput and latency of a detector by batch and concurrency, with real pictures.

    The pictures are decoded beforehand. Pictures that are being detected elsewhere meanwhile
    share the model with this. Ends with 1 when a call fails.

    Examples: `hsi models bench` · `hsi models bench --url grpc://gpu-box:8001 --chart bench.svg` ·
    `hsi models bench --batches 1,16 --concurrency 1,8 --seconds 10 --json`
    """
    sizes, callers = _numbers("--batches", batches, 16), _numbers("--concurrency", concurrency, 64)
    settings = load_settings()
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    identity, points = asyncio.run(_measure(settings, url, (sizes, callers), seconds, console))
    if chart is not None:
        title = f"{identity.model} {identity.version} by {identity.engine}"
        try:
            chart.write_text(svg(title, points))
        except OSError as error:
            raise PermanentError(f"{chart} cannot be written: {error.strerror}") from error
    if as_json:
        print(json.dumps({**asdict(identity), "points": [asdict(point) for point in points]}))
        return
    console.print(_table(points))
    if chart is not None:
        console.print(f"Chart: {chart}")


def _numbers(option: str, text: str, most: int) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise PermanentError(f"{option} {text}: write numbers from 1 to {most}, such as 1,4,8")
    return sorted({int(part) for part in parts})


async def _measure(
    settings: Settings,
    url: str | None,
    grid: tuple[list[int], list[int]],
    seconds: float,
    console: Console,
) -> tuple[ModelIdentity, list[Point]]:
    pictures = _pictures()
    identity, points = None, []
    for batch in grid[0]:
        # A batch is what one request carries: calls are not gathered into larger ones.
        detector = open_detector(url or settings.rtdetr_url, _options(settings, batch))
        try:
            if identity is None:
                identity = await detector.check()
                told = f"{identity.model} {identity.version} by {identity.engine}"
                console.print(f"Measuring {told}, {seconds:g} s for each line.")
            sizes = [(batch, callers) for callers in grid[1]]
            points += [await _point(detector, pictures, size, seconds) for size in sizes]
        finally:
            await detector.close()
    if identity is None:
        raise HsiError("nothing was measured: no batch was given")
    return identity, points


def _options(settings: Settings, batch: int) -> DetectorOptions:
    return DetectorOptions(
        models_dir=settings.models_dir,
        max_batch=batch,
        connect_timeout=settings.ai_connect_timeout,
        read_timeout=settings.rtdetr_read_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.ai_ca_path,
        repair=False,
    )


def _pictures() -> list[Picture]:
    return [decode(path.read_bytes(), path.name) for path in sorted(PICTURES.glob("*.jpg"))]


async def _point(
    detector: Detector, pictures: list[Picture], size: tuple[int, int], seconds: float
) -> Point:
    batch, callers = size
    run: Iterator[Picture] = cycle(pictures)
    await detector.detect(list(islice(run, batch)))  # The first call of a size is never typical.
    waits: list[float] = []
    began = time.perf_counter()

    async def caller() -> None:
        while (started := time.perf_counter()) < began + seconds:
            answers = await detector.detect(list(islice(run, batch)))
            if len(answers) != batch:
                raise HsiError(f"the detector gave {len(answers)} answers for {batch} pictures")
            waits.append(1000 * (time.perf_counter() - started))

    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - began
    waits.sort()

    def share(part: float) -> float:
        return round(waits[min(len(waits) - 1, int(part * len(waits)))], 1)

    count = batch * len(waits)
    rate = round(count / took, 1)
    return Point(batch, callers, count, rate, share(0.5), share(0.95), share(0.99))


def _table(points: list[Point]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("batch", "calls", "pictures/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_column("")
    most = max(point.pictures_per_s for point in points)
    for point in points:
        figures = (point.pictures_per_s, point.p50_ms, point.p95_ms, point.p99_ms)
        table.add_row(
            str(point.batch),
            str(point.concurrency),
            *(f"{figure:,.1f}" for figure in figures),
            bar(point.pictures_per_s / most),
        )
    return table
