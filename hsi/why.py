"""`hsi why`: what became of a file, or how an event came about, for people."""

import json
import os
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.console import Console

from api.lineage_schemas import EventLineage, FileLineage, LineageFound
from domain.errors import HsiError
from domain.paths import escape_path
from hsi.lineage_view import show_event, show_file
from hsi.remote import AsJson, Remote, Url
from runtime.settings import load_settings


def why(
    of: Annotated[
        str,
        typer.Argument(
            help="Id of a file, picture, detection, batch or event, or a file's path.",
            metavar="ID|PATH",
        ),
    ],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Tell why nothing was sent about a picture, or where an event came from.

    Asks the running API. Times are those of CAMERA_TIMEZONE. Exit code 0: it was told; 1: no such
    thing, or the API does not answer; 2: the settings or arguments cannot be used.

    Examples: `hsi why "cameras/Front Door/one.jpg"` · `hsi why evt_5d1f…` ·
    `hsi why file_0c2e… --json`
    """
    remote = Remote(url)
    found = msgspec.convert(remote.ask("/api/lineage", of=_wanted(of)), LineageFound)
    lineage = remote.ask(found.links["lineage"])
    if as_json:
        print(json.dumps(lineage, ensure_ascii=False))
        return
    console = Console(highlight=False)
    zone = ZoneInfo(load_settings().camera_timezone)
    if found.kind == "event":
        show_event(console, msgspec.convert(lineage, EventLineage), zone)
    else:
        show_file(console, msgspec.convert(lineage, FileLineage), zone, found.earlier)


def _wanted(of: str) -> str:
    """Return a path that exists here as the API knows it: absolute, links followed, UTF-8."""
    if not of.strip():
        raise HsiError("give an id, or the path of a file")
    text = os.path.realpath(of) if os.path.exists(of) else of
    try:
        text.encode()
    except UnicodeEncodeError:
        return escape_path(text)
    return text
