"""`hsi as-of`: which cameras, settings or rules were in force at a past moment."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.as_of import CamerasAsOf, RulesAsOf, SettingsAsOf
from domain.errors import HsiError
from hsi.happenings import visible
from hsi.remote import AsJson, Remote, Url
from runtime.settings import load_settings


class What(StrEnum):
    """What is asked for."""

    CAMERAS = "cameras"
    SETTINGS = "settings"
    RULES = "rules"


def as_of(
    timestamp: Annotated[
        str,
        typer.Argument(
            help="ISO 8601, like 2026-03-01T07:00 (CAMERA_TIMEZONE unless it names a zone)."
        ),
    ],
    what: Annotated[What, typer.Argument(help="What to show.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show which cameras, settings or rules were in force at a past moment.

    Asks the running API. Exit code 0: it was shown; 1: the time cannot be read or lies in the
    future, or the API does not answer; 2: the settings or arguments cannot be used.

    Examples: `hsi as-of 2026-03-01T07:00 cameras` · `hsi as-of 2026-03-01T06:00Z settings --json`
    """
    zone = ZoneInfo(load_settings().camera_timezone)
    at = _moment(timestamp, zone)
    state = Remote(url).ask("/api/system/as-of", at=at.isoformat(), what=what.value)
    if as_json:
        print(json.dumps(state, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(Text(f"As of {at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}", "bold"))
    match what:
        case What.CAMERAS:
            console.print(_cameras(msgspec.convert(state, CamerasAsOf)))
        case What.SETTINGS:
            console.print(_settings(msgspec.convert(state, SettingsAsOf), zone))
        case What.RULES:
            console.print(_rules(msgspec.convert(state, RulesAsOf)))


def _moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise HsiError(
            f"{text!r} is not a time: give ISO 8601, like 2026-03-01T07:00 or 2026-03-01T06:00:00Z"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=zone)


def _cameras(state: CamerasAsOf) -> Table | Text:
    if not state.cameras:
        return Text("No camera was known then.")
    table = _table("camera", "name", "folder", "state", "way in", "if unseen", "source")
    for camera in state.cameras:
        on = "removed" if camera.removed_at else ("on" if camera.enabled else "off")
        way_in = "yes" if camera.entry_point else "no"
        unseen = camera.when_unavailable
        row = (camera.id, camera.name, camera.folder, on, way_in, unseen, camera.source)
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def _settings(state: SettingsAsOf, zone: ZoneInfo) -> Table | Text:
    if state.settings is None:
        return Text("No settings had been recorded yet.")
    table = _table("setting", "value")
    since = state.settings.applied_at.astimezone(zone)
    table.add_row(Text("(in force since)"), Text(f"{since:%Y-%m-%d %H:%M:%S}"))
    for name, value in msgspec.to_builtins(state.settings).items():
        if name not in ("camera_id", "applied_at"):
            shown = ", ".join(value) if isinstance(value, list | tuple) else str(value)
            table.add_row(Text(name.upper()), Text(visible(shown)))
    for service in state.services:
        said = f"{service.status}: {service.message}"
        table.add_row(Text(f"({service.service} said)"), Text(visible(said)))
    return table


def _rules(state: RulesAsOf) -> Table | Text:
    if state.rules_version is None:
        return Text("No rules had been recorded yet.")
    table = _table("rule", "value")
    same = "" if state.rules_version == state.rules_version_now else " (other rules run now)"
    rows = {
        "rules": f"{state.rules_version}{same}",
        "prompt": state.prompt_version or "",
        **{f"level {level}": scores for level, scores in state.levels.items()},
        "fast path": state.fast_path or "",
        "ways in": ", ".join(state.entry_points) or "none",
    }
    for name, value in rows.items():
        table.add_row(Text(name), Text(visible(value)))
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")
