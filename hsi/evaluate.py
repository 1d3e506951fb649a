"""`hsi evaluate`: what a detector is worth, on pictures that people have labelled."""

import asyncio
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from domain.errors import HsiError, PermanentError
from domain.labelled import OVERLAP, LabelledPicture, Tally, Verdict, judge, tally
from hsi.serve import options
from inference.detectors import open_detector
from inference.images import decode
from inference.labels import SERVED_LABELS
from inference.ports import Detector, ModelIdentity
from runtime.settings import load_settings

app = typer.Typer(add_completion=False)

PICTURES: Final = Path(__file__).resolve().parent / "evaluation_pictures"
LABELS_FILE: Final = "labels.json"
LEAST: Final = 0.85
_Share = Annotated[float, typer.Option(min=0, max=1)]


class _Labels(msgspec.Struct, forbid_unknown_fields=True):
    pictures: list[LabelledPicture]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How one model did on one set of pictures."""

    identity: ModelIdentity
    threshold: float
    verdicts: dict[str, Verdict]
    """By file, in the order of the labels."""

    @property
    def total(self) -> Tally:
        """Return the tally over all pictures."""
        return tally(list(self.verdicts.values()))

    def by_name(self) -> dict[str, Tally]:
        """Return a tally for each name of an object or a wrong box, the most labelled first."""
        verdicts = list(self.verdicts.values())
        names = {o.name for verdict in verdicts for o in (*verdict.found, *verdict.missed)}
        names |= {box.label for verdict in verdicts for box in verdict.wrong}
        tallies = {name: tally(verdicts, name) for name in sorted(names)}
        return dict(sorted(tallies.items(), key=lambda row: -row[1].found - row[1].missed))


@app.callback()
def _evaluate() -> None:
    """Keep `hsi evaluate` a group."""


@app.command()
def detector(
    pictures: Annotated[
        Path, typer.Option(help=f"Folder of pictures with a {LABELS_FILE}.", show_default=False)
    ] = PICTURES,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least score that counts; unset: DETECTION_CONFIDENCE_THRESHOLD.",
        ),
    ] = None,
    min_recall: _Share = LEAST,
    min_precision: _Share = LEAST,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, no tables.")] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Let the configured detector look at labelled pictures, and count what it finds and invents.

    The detector is the one that RTDETR_URL names, else the embedded one; without --pictures it
    looks at the twenty real pictures that come with the product. Only the nine classes that
    /detect keeps are counted. Ends with 0 when recall and precision are high enough, else with 1.

    Examples: `hsi evaluate detector` · `hsi evaluate detector --threshold 0.6 --json` ·
    `RTDETR_URL=grpc://triton:8001 hsi evaluate detector --min-recall 0.95`
    """
    settings = load_settings(env_file)
    least = settings.detection_confidence_threshold if threshold is None else threshold
    labelled = read_labels(pictures)

    async def run() -> Evaluation:
        opened = open_detector(settings.rtdetr_url, options(settings))
        try:
            return await evaluate(opened, pictures, labelled, least)
        finally:
            await opened.close()

    done = asyncio.run(run())
    total = done.total
    passed = total.recall >= min_recall and total.precision >= min_precision
    if as_json:
        print(json.dumps(_plain(done) | {"passed": passed}))
    else:
        _show(done, passed=passed, least=(min_recall, min_precision))
    if not passed:
        raise typer.Exit(1)


def read_labels(folder: Path) -> list[LabelledPicture]:
    """Return the labelled pictures of a folder; raises HsiError for a file that is not right."""
    path = folder / LABELS_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Labels).pictures
    except OSError as error:
        raise HsiError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HsiError(f"{path} is not a file of labels: {error}") from error
    for picture in found:
        for thing in picture.objects:
            if unknown := set(thing.labels) - SERVED_LABELS:
                raise HsiError(
                    f"{path}: {picture.file} has the label {sorted(unknown)[0]!r}; the labels "
                    f"are {', '.join(sorted(SERVED_LABELS))}"
                )
    if not any(picture.objects for picture in found):
        raise HsiError(f"{path} labels no object, so there is nothing to find")
    return found


async def evaluate(
    found_by: Detector, folder: Path, labelled: list[LabelledPicture], threshold: float
) -> Evaluation:
    """Let a detector look at every picture."""
    verdicts: dict[str, Verdict] = {}
    identity = await found_by.check()
    for entry in labelled:
        data = await asyncio.to_thread(_read, folder, entry)
        shown = await asyncio.to_thread(decode, data, entry.file)
        (seen,) = await found_by.detect([shown])
        counted = (b for b in seen.boxes if b.score >= threshold and b.label in SERVED_LABELS)
        verdicts[entry.file] = judge(counted, entry)
    return Evaluation(identity, threshold, verdicts)


def _read(folder: Path, entry: LabelledPicture) -> bytes:
    path = folder / entry.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PermanentError(
            f"labelled picture {path} cannot be read: {error.strerror}"
        ) from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise PermanentError(
            f"{path} is not the picture that was labelled: its SHA-256 is another than "
            f"{LABELS_FILE} says; label it anew"
        )
    return data


def _show(done: Evaluation, *, passed: bool, least: tuple[float, float]) -> None:
    console = Console()
    pictures = Table("picture", "labelled", "found", "missed", "wrong", title="By picture")
    for file, verdict in done.verdicts.items():
        missed = ", ".join(thing.name for thing in verdict.missed)
        wrong = ", ".join(f"{box.label} {box.score:.2f}" for box in verdict.wrong)
        there = len(verdict.found) + len(verdict.missed)
        pictures.add_row(
            escape(Path(file).name), str(there), str(len(verdict.found)), missed, wrong
        )
    console.print(pictures)
    names = Table("object", "labelled", "found", "missed", "wrong", "recall", title="By object")
    for name, row in {**done.by_name(), "all": done.total}.items():
        counts = (row.found + row.missed, row.found, row.missed, row.wrong)
        recall = f"{row.recall:.2f}" if row.found + row.missed else ""
        names.add_row(name, *map(str, counts), recall, style="bold" if name == "all" else None)
    console.print(names)
    total, who = done.total, done.identity
    note = " (the offline fall-back)" if who.fallback else ""
    console.print(
        f"{who.model} {who.version} by {who.engine}{note}, score at least {done.threshold:g}, "
        f"overlap at least {OVERLAP:g}\n"
        f"recall {total.recall:.3f} (at least {least[0]:g}), precision {total.precision:.3f} "
        f"(at least {least[1]:g}): {'[green]good enough[/]' if passed else '[red]too low[/]'}",
        highlight=False,
        soft_wrap=True,
    )


def _plain(done: Evaluation) -> dict[str, object]:
    total = done.total
    return {
        "model": done.identity.model,
        "version": done.identity.version,
        "engine": done.identity.engine,
        "fallback": done.identity.fallback,
        "threshold": done.threshold,
        "overlap": OVERLAP,
        "pictures": len(done.verdicts),
        "recall": round(total.recall, 4),
        "precision": round(total.precision, 4),
        "total": asdict(total),
        "by_object": {name: asdict(row) for name, row in done.by_name().items()},
    }
