"""`hsi demo`: two cameras that upload real pictures, as cameras do, until somebody stops them.

Each picture is stored anew with the time at which it is "taken" in its EXIF block, so none is a
duplicate and every capture time is honest. It is written under a temporary name and renamed. The
demo never deletes a picture, since pictures are evidence; it ends by itself when its folders hold
more than a bound instead.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Final

import typer
from PIL import Image

from inference.jpeg import take_apart

PICTURES: Final = Path(__file__).resolve().parent / "demo_pictures"
FOLDERS: Final = {"yard": "Demo Yard", "porch": "Demo Porch"}
VISITS: Final = ("yard-1", "porch-1", "yard-2", "porch-1", "yard-3", "porch-1")
"""Who comes by, in this order, again and again; the pictures are named after their visit."""

_EXIF_IFD: Final = 0x8769
_DATE_TIME_ORIGINAL: Final = 0x9003
_OFFSET_TIME_ORIGINAL: Final = 0x9011
_SUBSECONDS_ORIGINAL: Final = 0x9291
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How the visits follow one another."""

    interval_seconds: float = 1.5
    pause_seconds: float = 45.0
    visits: int = 0
    """0: until stopped."""
    most_megabytes: int = 1000


def demo(
    cameras_folder: Annotated[
        Path, typer.Argument(help="Base folder of the cameras (FOSCAM_BASE_PATH).")
    ],
    visits: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    pause: Annotated[float, typer.Option(min=0.0, help="Seconds between two visits.")] = 45.0,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between pictures.")] = 1.5,
    most_megabytes: Annotated[
        int, typer.Option(min=1, help="End once the demo's two folders hold more than this.")
    ] = 1000,
) -> None:
    """Play real pictures into two camera folders, as cameras would upload them.

    Example: `hsi demo ./cameras --visits 1`
    """
    try:
        play(cameras_folder, Pace(interval, pause, visits, most_megabytes), typer.echo)
    except KeyboardInterrupt:
        typer.echo("Demo cameras stopped.")
    except OSError as error:
        typer.echo(f"Demo cameras: {error.filename or cameras_folder}: {error.strerror}", err=True)
        raise typer.Exit(1) from error


def play(
    cameras_folder: Path,
    pace: Pace,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Play visits until `pace` says that it is enough."""
    say(f"Demo cameras upload to {cameras_folder}; they never delete a picture.")
    for number in count():
        if pace.visits and number >= pace.visits:
            return
        if _megabytes(cameras_folder) > pace.most_megabytes:
            say(f"Demo cameras end here: their folders hold over {pace.most_megabytes} MB.")
            return
        if number:
            sleep(pace.pause_seconds)
        visit = VISITS[number % len(VISITS)]
        pictures = sorted(PICTURES.glob(f"{visit}-*.jpg"))
        folder = cameras_folder / FOLDERS[visit.partition("-")[0]]
        for index, picture in enumerate(pictures):
            if index:
                sleep(pace.interval_seconds)
            path = upload(picture, folder, datetime.now(UTC))
            say(f"{folder.name}: {path.name} ({index + 1} of {len(pictures)})")


def upload(picture: Path, folder: Path, taken: datetime) -> Path:
    """Store `picture` in a camera's folder as one that was taken at `taken`."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"MDAlarm_{taken:%Y%m%d-%H%M%S}-{taken.microsecond // 1000:03}.jpg"
    part = folder / f".{target.name}.part"
    part.write_bytes(_stamped(picture, taken))
    os.replace(part, target)
    return target


def _stamped(picture: Path, taken: datetime) -> bytes:
    exif = Image.Exif()
    details = exif.get_ifd(_EXIF_IFD)
    details[_DATE_TIME_ORIGINAL] = f"{taken:%Y:%m:%d %H:%M:%S}"
    details[_SUBSECONDS_ORIGINAL] = f"{taken.microsecond:06}"
    details[_OFFSET_TIME_ORIGINAL] = "+00:00"
    return take_apart(picture.read_bytes()).with_exif(exif.tobytes())


def _megabytes(cameras_folder: Path) -> float:
    files = (
        file for name in FOLDERS.values() for file in (cameras_folder / name).glob("MDAlarm_*.jpg")
    )
    return sum(file.stat().st_size for file in files) / _MEGABYTE
