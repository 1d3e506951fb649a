"""`hsi ledger`: how many files are where, as a table."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hsi.happenings import visible
from hsi.remote import Answer, AsJson, Remote, Url

_STATES = ("assessed", "filtered", "duplicate", "rejected", "parked", "pending")


def ledger(
    camera: Annotated[str | None, typer.Option(help="Count this camera's files only.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show how many files are in each state: every file seen is in exactly one.

    Ends with 0, with 1 when the API does not answer.

    Examples: `hsi ledger` · `hsi ledger --camera front_door` · `hsi ledger --json`
    """
    told = Remote(url).ask("/api/ledger", camera_id=camera)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(_by_camera(told))
    console.print(_reasons(told))
    console.print(_ages(told))
    if oldest := told["oldest_pending"]:
        console.print(
            f"oldest pending: {oldest['file_id']} of {visible(oldest['camera_id'])}, "
            f"{oldest['age_seconds']:.0f} s old, waits for {oldest['stage']}",
            soft_wrap=True,
            markup=False,
        )


def _row(table: Table, name: str, entry: Answer, style: str = "") -> None:
    numbers = [f"{entry['states'].get(state, 0):,}" for state in _STATES]
    table.add_row(Text(visible(name), style), *numbers, f"{entry['total']:,}", style=style)


def _by_camera(told: Answer) -> Table:
    table = _table("camera")
    for entry in told["cameras"]:
        _row(table, entry["camera_id"], entry)
    _row(table, "all", told, "bold")
    return table


def _ages(told: Answer) -> Table:
    table = _table("taken in")
    for entry in told["ages"]:
        since, until = entry["from_seconds"], entry["to_seconds"]
        name = f"more than {_age(since)} ago" if until is None else f"within {_age(until)}"
        _row(table, name, entry)
    return table


def _age(seconds: int) -> str:
    units = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
    size, unit = next((size, unit) for size, unit in units if seconds >= size)
    return f"{seconds // size} {unit}{'s' if seconds >= 2 * size else ''}"


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for state in (*_STATES, "total"):
        table.add_column(state, justify="right")
    return table


def _reasons(told: Answer) -> Table:
    table = Table("state", "reason", box=None, pad_edge=False)
    table.add_column("files", justify="right")
    for entry in told["reasons"]:
        if entry["reason"]:
            row = Text(entry["state"]), Text(visible(entry["reason"]))
            table.add_row(*row, f"{entry['files']:,}")
    return table
