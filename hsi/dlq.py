"""`hsi dlq`: parked entries as a workbench: look, redrive after the fix, or discard."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from domain.errors import HsiError
from hsi.happenings import visible
from hsi.remote import Answer, AsJson, Remote, Url

app = typer.Typer(add_completion=False)

CONFIRM_ABOVE = 100
RUN = 100
"""Entries one request carries: the most a URL holds, and a progress bar's step."""

Action = Literal["redrive", "discard"]

Queue = Annotated[
    str,
    typer.Argument(
        help="all, detection_queue, analysis_queue, or a stage: detect, batch, assess, refine."
    ),
]
Cause = Annotated[str | None, typer.Option(help="Only entries parked for this cause.")]
Camera = Annotated[str | None, typer.Option(help="Only entries of this camera.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Only this entry; may be given again.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help=f"Do not ask above {CONFIRM_ABOVE} entries.")]
Rate = Annotated[float, typer.Option(min=0.1, max=10_000, help="Entries a second at most.")]


@app.command("list")
def show_list(
    queue: Queue = "all",
    cause: Cause = None,
    camera: Camera = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries to show.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show parked entries: first by stage, cause and versions, then the oldest one by one.

    Examples: `hsi dlq list` · `hsi dlq list detect --cause PermanentError` ·
    `hsi dlq list --limit 1000 --json`
    """
    remote = Remote(url)
    stats = remote.ask("/api/dlq/stats")
    jobs = remote.ask(f"/api/dlq/jobs/{queue}", cause=cause, camera_id=camera, limit=limit)
    if as_json:
        print(json.dumps({"stats": stats, **jobs}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not stats["total_count"]:
        console.print("Nothing is parked.")
        return
    console.print(_groups(stats["groups"]))
    console.print(_jobs(jobs["jobs"]))
    if jobs["next_cursor"]:
        console.print(f"… and more: the oldest {jobs['count']} are shown (--limit).")


@app.command()
def show(
    entry: Annotated[str, typer.Argument(help="Id of the entry, from `hsi dlq list`.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show one parked entry with its error, its versions and its payload.

    Examples: `hsi dlq show 2-1767225600000-0` · `hsi dlq show 2-1767225600000-0 --json`
    """
    told = Remote(url).ask(f"/api/dlq/entries/{entry}")
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in told.items():
        if value is not None and name not in ("links", "original_job"):
            table.add_row(Text(name, "dim"), Text(visible(str(value))))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        visible(told["original_job"] or "(the log no longer has the payload)"), markup=False
    )


@app.command()
def redrive(  # noqa: PLR0913 - one parameter an option
    queue: Queue = "all",
    cause: Cause = None,
    camera: Camera = None,
    ids: Ids = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = 100.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Hand parked entries back to the stage that parked them; each once, however often asked.

    Ends with 0 when nothing that was asked for is left, with 1 otherwise.

    Examples: `hsi dlq redrive detect --dry-run` · `hsi dlq redrive --cause PermanentError` ·
    `hsi dlq redrive --id 2-1767225600000-0` · `hsi dlq redrive all --yes --rate 20`
    """
    work = _Work(Remote(url), "redrive", queue, rate)
    _decide(work, work.ids(cause, camera, ids), dry_run=dry_run, yes=yes, as_json=as_json)


@app.command()
def discard(  # noqa: PLR0913 - one parameter an option
    queue: Queue,
    cause: Cause = None,
    camera: Camera = None,
    ids: Ids = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = 100.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say that parked entries are not to be handled any more; their pictures count as filtered.

    Ends with 0 when nothing that was asked for is left, with 1 otherwise.

    Examples: `hsi dlq discard detect --cause PermanentError --dry-run` ·
    `hsi dlq discard all --id 2-1767225600000-0`
    """
    work = _Work(Remote(url), "discard", queue, rate)
    _decide(work, work.ids(cause, camera, ids), dry_run=dry_run, yes=yes, as_json=as_json)


class _Work:
    """One redrive or discarding, request by request."""

    def __init__(self, remote: Remote, action: Action, queue: str, rate: float) -> None:
        self.remote = remote
        self.action: Action = action
        self.queue = queue
        self.rate = rate

    def ids(self, cause: str | None, camera: str | None, named: list[str] | None) -> list[str]:
        """Return the entries that are meant, as they are there now."""
        if named:
            if cause is not None or camera is not None:
                raise HsiError("--id names entries by itself: leave --cause and --camera out")
            return named
        return list(self._all(cause, camera))

    def _all(self, cause: str | None, camera: str | None) -> Iterator[str]:
        cursor = None
        while True:
            page = self.remote.ask(
                f"/api/dlq/jobs/{self.queue}",
                cause=cause,
                camera_id=camera,
                limit=1000,
                cursor=cursor,
            )
            yield from (job["id"] for job in page["jobs"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def run(self, ids: list[str]) -> Iterator[Answer]:
        """Decide about the entries, some at a time, and yield what each request answered."""
        size = max(1, min(RUN, int(self.rate)))
        for start in range(0, len(ids), size):
            began = time.monotonic()
            some = ids[start : start + size]
            yield self._ask(some)
            if start + size < len(ids):
                time.sleep(max(0.0, len(some) / self.rate - (time.monotonic() - began)))

    def _ask(self, ids: list[str]) -> Answer:
        if self.action == "redrive":
            path = f"/api/dlq/requeue/{self.queue}"
            return self.remote.ask(path, method="POST", body={"ids": ids})
        path = f"/api/dlq/{self.queue}"
        return self.remote.ask(path, method="DELETE", ids=",".join(ids))


def _decide(work: _Work, ids: list[str], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if not dry_run and not yes and len(ids) > CONFIRM_ABOVE:
        typer.confirm(f"This will {work.action} {len(ids)} entries. Go on?", abort=True, err=True)
    totals: Counter[str] = Counter(selected=len(ids))
    if not dry_run:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(work.action, total=len(ids))
            for told in work.run(ids):
                totals.update({n: told[n] for n in ("count", "already", "skipped", "remaining")})
                bar.advance(task, told["selected"])
    left = totals["skipped"] + totals["remaining"]
    if as_json:
        names = ("selected", "count", "already", "skipped", "remaining")
        counts = {name: totals[name] for name in names}
        print(json.dumps({"action": work.action, "dry_run": dry_run, **counts}))
    elif dry_run:
        print(f"{len(ids)} entries would be {_DONE[work.action]}")
    else:
        print(
            f"{totals['count']} of {len(ids)} entries {_DONE[work.action]}, "
            f"{totals['already']} were decided before, {left} could not be"
        )
    if left:
        raise typer.Exit(1)


_DONE = {"redrive": "redriven", "discard": "discarded"}


def _groups(groups: list[Answer]) -> Table:
    table = Table("stage", "cause", box=None, pad_edge=False)
    table.add_column("entries", justify="right")
    for name in ("software", "model", "newest error"):
        table.add_column(name)
    for group in groups:
        model = " ".join(filter(None, (group["model"], group["model_version"])))
        table.add_row(
            Text(group["group_name"]),
            Text(visible(group["cause"])),
            f"{group['entries']:,}",
            Text(group["service_version"]),
            Text(visible(model)),
            Text(_short(group["error"])),
        )
    return table


def _jobs(jobs: list[Answer]) -> Table:
    names = ("id", "stage", "camera", "cause", "tries", "parked at", "error")
    table = Table(*names, box=None, pad_edge=False)
    for job in jobs:
        table.add_row(
            Text(job["id"], no_wrap=True),
            Text(job["group_name"]),
            Text(visible(job["camera_id"])),
            Text(visible(job["cause"])),
            Text(str(job["attempts"])),
            Text(job["parked_at"][:19]),
            Text(_short(job["error"])),
        )
    return table


def _short(error: str) -> str:
    """Return the beginning of an error; `hsi dlq show` has all of it."""
    return visible(error if len(error) <= 100 else error[:99] + "…")
