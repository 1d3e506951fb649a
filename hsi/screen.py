"""What `hsi up` shows: a live table on a terminal, plain lines anywhere else."""

import io
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TextIO

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


class Forgiving(io.RawIOBase):
    """A descriptor whose reader may go away, like `hsi up | head` or a closed terminal.

    The product goes on without a reader; only an orderly stop ends it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Say yes, whoever reads."""
        return True

    def isatty(self) -> bool:
        """Say whether a terminal reads."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Write what somebody still reads; from the first failure on, to nobody."""
        try:
            return os.write(self._descriptor, data)
        except OSError:
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, self._descriptor)
            os.close(nobody)
            return memoryview(data).nbytes


def open_screen() -> Screen:
    """Return the screen that fits where standard output goes."""
    raw = Forgiving(sys.stdout.fileno())
    out = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="replace")
    return LiveScreen(Console(file=out, highlight=False)) if raw.isatty() else PlainScreen(out)


class PlainScreen:
    """Lines with the time of day."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

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
        self._out.write(text + "\n")
        self._out.flush()


class LiveScreen:
    """A table of the latest happenings below everything that was said."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
