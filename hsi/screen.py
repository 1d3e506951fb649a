"""What `hsi up` shows: a live table on a terminal, plain lines anywhere else."""

import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hsi.happenings import Happening

LEVEL_STYLES: Final = {"low": "green", "medium": "yellow", "high": "red", "critical": "bold red"}
LINES_AT_ONCE: Final = 40
"""Plain lines for one read of the log; a flood of files must not become a flood of text."""
_COUNTED: Final = {"picture": "pictures", "batch": "batches", "risk": "assessments"}


class Screen(Protocol):
    """Where `hsi up` says and shows things."""

    def say(self, text: str, *, style: str = "") -> None:
        """Say something once."""

    def show(self, happenings: Sequence[Happening]) -> None:
        """Show what happened, oldest first."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_screen() -> Screen:
    """Return the screen that fits where standard output goes."""
    return LiveScreen() if sys.stdout.isatty() else PlainScreen()


class PlainScreen:
    """Lines with the time of day; a reader that went away is no reason to stop."""

    def say(self, text: str, *, style: str = "") -> None:
        """Print the text."""
        now = datetime.now().astimezone()
        self._print(f"{now:%H:%M:%S}  {text}")

    def show(self, happenings: Sequence[Happening]) -> None:
        """Print one line each, the newest if there are very many."""
        left_out = len(happenings) - LINES_AT_ONCE
        if left_out > 0:
            self._print(f"          … {left_out} more lines left out …")
        for happening in happenings[-LINES_AT_ONCE:]:
            self._print(
                f"{happening.time}  {happening.camera:<16} {happening.step:<9} {happening.text}"
            )

    def close(self) -> None:
        """Nothing to put back."""

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except (BrokenPipeError, ValueError):
            # Like `hsi up | head`: go on without a reader, and keep Python from failing at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it lives as long as we do


class LiveScreen:
    """A table of the latest happenings below everything that was said."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._latest: deque[Happening] = deque(maxlen=max(4, min(18, self._console.height - 8)))
        self._counts: Counter[str] = Counter()
        self._live: Live | None = None

    def say(self, text: str, *, style: str = "") -> None:
        """Print the text above the table."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def show(self, happenings: Sequence[Happening]) -> None:
        """Draw the table anew with what came last."""
        for happening in happenings:
            self._latest.append(happening)
            self._counts[_COUNTED.get(happening.step, happening.step)] += 1
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        counts = " · ".join(
            f"{number} {what}"
            for what, number in self._counts.items()
            if what in ("pictures", "batches", "assessments", "rejected", "duplicate", "parked")
        )
        table = Table(
            "time",
            "camera",
            "step",
            "what",
            box=None,
            expand=True,
            caption=f"{counts}   Ctrl-C stops",
        )
        table.columns[3].ratio = 1
        for column in table.columns[:3]:
            column.no_wrap = True
        table.columns[3].overflow = "ellipsis"
        table.columns[3].no_wrap = True
        for row in self._latest:
            style = LEVEL_STYLES.get(row.level or "", "magenta" if row.trouble else "")
            table.add_row(
                Text(row.time, "dim"),
                Text(row.camera),
                Text(row.step, style),
                Text(row.text, style),
            )
        return table

    def close(self) -> None:
        """Leave the last table standing and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
