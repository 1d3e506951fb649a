"""`hsi scene-changes`: what other thresholds would have said of a camera's view."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from domain.scene_tuning import THRESHOLDS, CameraTrials
from hsi.projections import with_servers
from hsi.remote import AsJson
from hsi.roles import EnvFile
from projections.database import Pool
from runtime.settings import Settings, load_settings
from streams.history import History
from streams.log import EventLog

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Keep `scene-changes` a group of commands."""


@app.command()
def tune(
    days: Annotated[int, typer.Option(min=1, max=365, help="Look so many days back.")] = 7,
    camera: Annotated[str | None, typer.Option(help="Id of one camera; unset: all.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show how many changes each SCENE_CHANGE_THRESHOLD would have said.

    Reads the figures that the log and its archive keep of every checked picture; nothing is
    changed. Set one by SCENE_CHANGE_THRESHOLD, or by `scene_change_threshold` of a camera. Ends
    with 0, or with 1 when a server does not answer.

    Examples: `hsi scene-changes tune` · `hsi scene-changes tune --camera yard --days 30 --json`
    """
    settings = load_settings(env_file)
    since = datetime.now(UTC) - timedelta(days=days)

    async def work(log: EventLog, _: Pool) -> dict[str, CameraTrials]:
        return await _tried(settings, log, since, camera)

    found = with_servers(settings, work)
    if as_json:
        print(json.dumps({"days": days, "cameras": {k: _json(v) for k, v in found.items()}}))
        return
    console = Console(highlight=False)
    if not found:
        console.print(f"No picture was checked in the last {days} days.")
        return
    _show(console, settings, found)


async def _tried(
    settings: Settings, log: EventLog, since: datetime, camera: str | None
) -> dict[str, CameraTrials]:
    found: dict[str, CameraTrials] = {}
    past = History(log, settings.archive_folder)
    partitions = range(log.partitions) if camera is None else [log.partition_of(camera)]
    for partition in partitions:
        async for envelopes in past.read_all("scenes", partition):
            for envelope in envelopes:
                event = envelope.event
                if camera in (None, event.camera_id) and envelope.recorded_at >= since:
                    found.setdefault(event.camera_id, CameraTrials()).sees(event)
    return {name: found[name] for name in sorted(found) if found[name].checked}


def _json(of: CameraTrials) -> dict[str, object]:
    return {
        "checked": of.checked,
        "lowest_similarity": of.lowest_similarity,
        "lowest_structure": of.lowest_structure,
        "changes": [
            {
                "threshold": trial.threshold,
                "count": len(trial.said),
                "by_type": dict(Counter(trial.said)),
            }
            for trial in of.trials
        ],
    }


def _show(console: Console, settings: Settings, found: dict[str, CameraTrials]) -> None:
    now = settings.scene_change_threshold
    heads = [f"{each:.2f}{' (now)' if each == now else ''}" for each in THRESHOLDS]
    table = Table("camera", "checked", "lowest SSIM", "structure", *heads, box=None)
    for name, trials in found.items():
        lowest = (f"{trials.lowest_similarity:.2f}", f"{trials.lowest_structure:.2f}")
        counts = [str(len(trial.said)) for trial in trials.trials]
        table.add_row(name, str(trials.checked), *lowest, *counts)
    console.print("Changes that each threshold would have said:")
    console.print(table)
