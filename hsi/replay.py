"""`hsi replay`: what would the events have been under other settings?"""

import asyncio
import hashlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from hsi.camera_folder import pictures_of
from hsi.whatif.folder import Asked, RunFolder
from hsi.whatif.make import Order, log_url, make
from hsi.whatif.page import write_page
from hsi.whatif.result import Changes, Result
from hsi.whatif.rules import example, read_rules
from hsi.whatif.table import show
from hsi.whatif.wishes import changed_settings, chosen_prompt, masked, parse_sets, pinned
from runtime.settings import load_settings

CANCELLED = 130


def _example(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(example())
        raise typer.Exit


Last = Annotated[
    str | None, typer.Option(help="The time before now: 30m, 12h, 7d, 2w.", metavar="LENGTH")
]
From = Annotated[
    str | None, typer.Option("--from", help="Events that began then or later.", metavar="TIME")
]
To = Annotated[
    str | None, typer.Option("--to", help="Events that began before; now.", metavar="TIME")
]
Cameras = Annotated[
    str | None, typer.Option(help="Ids or names, with commas between; all cameras.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting to try; may be given often.", metavar="NAME=VALUE"),
]
Again = Annotated[
    bool, typer.Option("--refine", help="Ask the language model about events that differ.")
]
RulesFile = Annotated[
    Path | None,
    typer.Option("--rules", help="Weights of the rules to try, in TOML.", metavar="FILE"),
]
RulesExample = Annotated[
    bool,
    typer.Option(
        "--rules-example",
        help="Print such a file with every weight, its default and meaning; do nothing else.",
        callback=_example,
        is_eager=True,
    ),
]
PromptNamed = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="A prompt to try with --refine: a version, or an own folder (with a / in it).",
        metavar="NAME_OR_FOLDER",
    ),
]
Report = Annotated[
    Path | None, typer.Option(help="Write an HTML page with pictures there.", metavar="FILE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[
    str | None, typer.Option(help="Name of the run, to go on with it after a Ctrl-C.")
]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]


def replay(  # noqa: PLR0913 - the options of a command
    last: Last = None,
    begin: From = None,
    end: To = None,
    cameras: Cameras = None,
    sets: Sets = None,
    refine: Again = False,
    rules_file: RulesFile = None,
    prompt: PromptNamed = None,
    rules_example: RulesExample = False,
    report: Report = None,
    as_json: AsJson = False,
    name: Name = None,
    env_file: EnvFile = None,
) -> None:
    """Show which events other settings would have made of the recorded pictures.

    Runs beside everything else, changes nothing, and sends nothing. Settings to try:
    DETECTION_CONFIDENCE_THRESHOLD, BATCH_*, FAST_PATH_*, SEVERITY_*, CAMERA_TIMEZONE; RTDETR_URL
    looks at the pictures again; NEMOTRON_URL, NEMOTRON_API and --prompt need --refine.

    Examples: `hsi replay --last 7d --set DETECTION_CONFIDENCE_THRESHOLD=0.6 --report out.html` ·
    `hsi replay --from 2026-05-01 --to 2026-05-08 --cameras porch --set BATCH_WINDOW_SECONDS=60` ·
    `hsi replay --last 24h --rules weights.toml` ·
    `hsi replay --last 24h --refine --prompt ~/prompts`

    Exit codes: 0 done · 1 failed · 2 bad settings or options · 130 cancelled, goes on with --name
    """
    names = tuple(part.strip() for part in (cameras or "").split(",") if part.strip())
    asked = Asked(last=last, begin=begin, end=end, cameras=names, refine=refine)
    order = _order(asked, sets or [], rules_file, prompt, env_file)
    settings, name = order.settings, name or _name(order.asked)
    notices = Console(stderr=True, highlight=False)
    with RunFolder(settings.state_dir / "replays", name) as folder:
        try:
            result = _run(order, folder, notices)
        except KeyboardInterrupt:
            notices.print(f"cancelled; the same command with --name {name} goes on from here")
            raise typer.Exit(CANCELLED) from None
        changes, zone = Changes(folder), ZoneInfo(settings.camera_timezone)
        if report is not None:
            write_page(report, result, changes, zone, pictures_of(settings))
            notices.print(f"the report is in {report}")
        if as_json:
            sys.stdout.writelines(_as_json(result, changes))
        else:
            show(result, changes, zone, Console(highlight=False))


def _order(
    asked: Asked, sets: list[str], rules_file: Path | None, prompt: str | None, env: Path | None
) -> Order:
    """Return what is to be done; raises HsiError for what cannot be tried."""
    chosen = parse_sets(sets, refine=asked.refine)
    rules = read_rules(rules_file) if rules_file is not None else None
    tried = chosen_prompt(prompt, refine=asked.refine)
    asked = msgspec.structs.replace(
        asked,
        sets=masked(chosen),
        rules=None if rules is None else rules.version,
        prompt=pinned(tried),
    )
    return Order(asked, chosen, load_settings(env), changed_settings(env, chosen), rules, tried)


def _as_json(result: Result, changes: Changes) -> Iterator[str]:
    """Give one JSON object, one change a line: there may be more of them than fit in memory."""
    head = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    yield head.removesuffix("\n}") + ',\n  "changes": ['
    for number, line in enumerate(changes.lines()):
        yield ("," if number else "") + "\n    " + line.decode()
    yield "\n  ]\n}\n"


def _run(order: Order, folder: RunFolder, notices: Console) -> Result:
    columns = (TextColumn("{task.fields[run]}: {task.completed} pictures"), TimeElapsedColumn())
    with (
        log_url(order.settings) as url,
        _interruptible(),
        Progress(*columns, console=notices) as progress,
    ):
        task = progress.add_task("replay", total=None, run=folder.name)
        return asyncio.run(
            make(order, folder, url, lambda pictures: progress.advance(task, pictures))
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the run at once.

    asyncio's own handler asks the task to end by a cancellation, which can get lost on the way
    (Python 3.11); and nothing here needs more than the last checkpoint.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _name(asked: Asked) -> str:
    """Return a name for a run that was given none: when it began, and what it tries."""
    now = datetime.now(UTC)
    what = hashlib.sha256(msgspec.json.encode(asked) + now.isoformat().encode()).hexdigest()[:6]
    return f"{now:%Y%m%d-%H%M%S}-{what}"
