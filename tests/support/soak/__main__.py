"""`PYTHONPATH=tests python -m support.soak`: run the crash suite once, print what came of it."""

import argparse
import asyncio
import random
import signal
import sys

from rich.console import Console
from rich.table import Table
from support.soak.driver import Report, run
from support.soak.plan import Options


def main() -> int:
    """Return 0 when the check found nothing wrong, 1 when it did."""
    console = Console(width=100, highlight=False)
    options = _options()
    console.print(f"[bold]crash suite[/]  rerun with: {options.rerun()}")
    # A kill of ours stops the house in order, too: no mount and no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    report = asyncio.run(run(options, console.print))
    show(console, report)
    return 0 if report.passed else 1


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="drawn at random when not given")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--appendfsync", choices=["everysec", "always"], default="everysec")
    parser.add_argument("--gap", type=float, nargs=2, default=(1.0, 3.0), metavar=("LOW", "HIGH"))
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000) if given.seed is None else given.seed
    return Options(seed, given.files, given.kills, given.appendfsync, tuple(given.gap))


def show(console: Console, report: Report) -> None:
    """Print the summary of a run."""
    options = report.options
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("seed", str(options.seed))
    table.add_row("appendfsync", options.appendfsync)
    table.add_row("seconds", f"{report.seconds:.0f}")
    table.add_row("files", f"{options.files}  ({_listed(report.verdict.states)})")
    table.add_row("kill -9", f"{report.kills.total()}  ({_listed(report.kills)})")
    table.add_row("paused", f"{report.pauses.total()}  ({_listed(report.pauses)})")
    table.add_row("cut", f"{report.cuts.total()}  ({_listed(report.cuts)})")
    table.add_row("full", _listed(report.fills))
    table.add_row("ended by itself", _listed(report.unasked) or "none")
    for line in report.why:
        table.add_row("", line)
    table.add_row("in the log", _listed(report.verdict.counts))
    table.add_row("noticed", _listed(report.evidence))
    rest = report.settled_after
    table.add_row("at rest after", "never" if rest is None else f"{rest:.1f} s")
    console.print(table)
    if report.passed:
        console.print(
            "[bold green]PASSED[/]  every file in exactly one state, every id once, nothing open"
        )
        return
    for problem in report.verdict.problems:
        console.print(f"[red]✗[/] {problem}", markup=False)
    console.print(report.last_words, markup=False)
    console.print(f"[bold red]FAILED[/]  rerun with: {options.rerun()}")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


if __name__ == "__main__":
    sys.exit(main())
