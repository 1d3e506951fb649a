"""`hsi models load|unload|promote|rollback`: what a Triton server serves, judged by a picture."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from domain.errors import PermanentError
from hsi.demo import PICTURES
from inference.images import decode
from inference.labels import COCO_LABELS
from inference.model_control import ModelControl, controlling
from inference.model_switch import Golden, Target, judged, last_switch, switch, versions_of
from inference.version_policy import CONFIG, pinned_version
from runtime.settings import PROJECT_ROOT, Settings, load_settings

GOLDEN_PICTURE = PICTURES / "porch-1-01.jpg"
GOLDEN_LABELS = ("dog", "bicycle")
REPOSITORY = PROJECT_ROOT / "triton_models"

Model = Annotated[str, typer.Argument(help="The model's folder in the repository.")]
Url = Annotated[
    str | None, typer.Option("--url", help="grpc(s)://host:8001 of Triton; else RTDETR_URL.")
]
Repository = Annotated[
    Path, typer.Option(help="The model repository's folder, as this machine sees it.")
]
GoldenFile = Annotated[
    Path, typer.Option("--golden", help="A picture in which the model must see --expect.")
]
Expect = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL[=SCORE]",
        help="What must be seen in it, by default with a score of 0.5; may be given again."
        " [default: dog, bicycle]",
    ),
]
Score = Annotated[float, typer.Option(min=0.01, max=1, help="Smallest score that counts as seen.")]

console = Console(highlight=False, soft_wrap=True)


def load(
    model: Model = "rtdetrv2",
    url: Url = None,
    repository: Repository = REPOSITORY,
    golden: GoldenFile = GOLDEN_PICTURE,
    expect: Expect = None,
) -> None:
    """Load a model, or load it again, and let it look at the golden picture.

    Ends with 0 when it is ready and saw what it must, else with 1. A model that was not loaded
    before and does not see what it must is unloaded again. A load that would let another version
    serve than now is refused: that is a promotion.

    Examples: `hsi models load` · `hsi models load rtdetrv2_cpu --url grpc://gpu-box:8001`
    """
    target = _target(load_settings(), url, repository, model)
    wanted = _golden(golden, expect)

    async def work(control: ModelControl) -> str:
        before = await control.ready(model)
        _refuse_to_switch(target, before)
        versions = await control.load(model)
        try:
            seen = await judged(target, wanted)
        except PermanentError:
            if not before:
                await control.unload(model)
            raise
        return f"{model}: version {', '.join(versions)} is ready; {seen}"

    _done(target, work)


def unload(
    model: Model = "rtdetrv2",
    url: Url = None,
    repository: Repository = REPOSITORY,
) -> None:
    """Unload a model and wait until it is gone. Stages that need it pause; nothing is lost.

    Example: `hsi models unload rtdetrv2_cpu`
    """
    target = _target(load_settings(), url, repository, model)

    async def work(control: ModelControl) -> str:
        versions = await control.ready(model)
        gone = await control.unload(model)
        if not versions:
            return f"{model} was not loaded"
        still = "" if gone else "; an instance still has work in hand, or its process was killed"
        return f"{model}: version {', '.join(versions)} is unloaded{still}"

    _done(target, work)


def promote(
    version: Annotated[
        int | None,
        typer.Argument(min=1, help="Which version is to serve. [default: the highest there is]"),
    ] = None,
    model: Annotated[str, typer.Option(help="The model's folder.")] = "rtdetrv2",
    url: Url = None,
    repository: Repository = REPOSITORY,
    golden: GoldenFile = GOLDEN_PICTURE,
    expect: Expect = None,
) -> None:
    """Let another version of a model serve, if it sees in the golden picture what is there.

    It is loaded beside the one that serves and judged first, then switched without a failed
    picture, then judged again; when that fails the old one is back. config.pbtxt keeps the choice.
    Ends with 0 when the version serves, else with 1 and the old one serving.

    Examples: `hsi models promote` · `hsi models promote 3` ·
    `hsi models promote 3 --golden night.jpg --expect person=0.4`
    """
    target = _target(load_settings(), url, repository, model)
    _switch(target, version or _highest(target), _golden(golden, expect))


def rollback(
    model: Annotated[str, typer.Option(help="The model's folder.")] = "rtdetrv2",
    url: Url = None,
    repository: Repository = REPOSITORY,
    golden: GoldenFile = GOLDEN_PICTURE,
    expect: Expect = None,
) -> None:
    """Go back to the version that served before the last switch, with the same care.

    Twice in a row ends where it began. Ends with 1 when there was no switch.

    Example: `hsi models rollback`
    """
    target = _target(load_settings(), url, repository, model)
    last = last_switch(target.folder)
    if last is None:
        raise PermanentError(
            f"{target.folder} knows of no switch to take back: name a version with "
            "`hsi models promote VERSION`"
        )
    _switch(target, last.before, _golden(golden, expect))


def triton_url(settings: Settings, url: str | None) -> str:
    """Return the Triton server that is meant; PermanentError where none is."""
    wanted = url or settings.rtdetr_url or ""
    if urlsplit(wanted).scheme not in ("grpc", "grpcs"):
        raise PermanentError(
            f"{wanted or 'the embedded detector'} is no Triton server: set "
            "RTDETR_URL=grpc://host:8001, or give --url"
        )
    return wanted


def _target(settings: Settings, url: str | None, repository: Path, model: str) -> Target:
    folder = repository.resolve() / model
    if not folder.is_dir():
        there = ", ".join(sorted(p.name for p in repository.glob("*/") if p.is_dir())) or "none"
        raise PermanentError(f"{repository} has no model {model}; there are: {there}")
    return Target(
        triton_url(settings, url),
        model,
        folder,
        settings.ai_ca_path,
        settings.rtdetr_read_timeout,
    )


def _golden(path: Path, expect: list[str] | None) -> Golden:
    if expect is None and path != GOLDEN_PICTURE:
        raise PermanentError(f"--golden {path}: say with --expect what must be seen in it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PermanentError(f"--golden {path} cannot be read: {error.strerror}") from error
    wanted = dict(_wanted(words) for words in expect or GOLDEN_LABELS)
    return Golden(decode(data, path.name), wanted)


def _wanted(words: str) -> tuple[str, float]:
    """Read LABEL[=SCORE]."""
    label, _, score = words.partition("=")
    if label not in COCO_LABELS:
        raise PermanentError(f"--expect {words}: the model has no class {label}")
    try:
        least = float(score or 0.5)
    except ValueError:
        least = 0.0
    if not 0 < least <= 1:
        raise PermanentError(f"--expect {words}: the score is a number above 0, up to 1")
    return label, least


def _refuse_to_switch(target: Target, ready: Sequence[str]) -> None:
    """Refuse to load what would replace a version that serves: nobody has judged it yet."""
    wanted = pinned_version(target.folder / CONFIG) or _highest(target)
    if ready and str(wanted) not in ready:
        raise PermanentError(
            f"{target.model} serves version {', '.join(ready)}, and a load would let version "
            f"{wanted} serve unseen: `hsi models promote {wanted} --model {target.model}` judges "
            "it first"
        )


def _highest(target: Target) -> int:
    versions = versions_of(target.folder)
    if not versions:
        raise PermanentError(f"{target.folder} has no version: `hsi models install` adds one")
    return versions[-1]


def _switch(target: Target, version: int, golden: Golden) -> None:
    async def work(control: ModelControl) -> str:
        return f"{target.model}: {await switch(control, target, version, golden)}, and serves"

    _done(target, work)


def _done(target: Target, work: Callable[[ModelControl], Awaitable[str]]) -> None:
    """Do it over model control and say what came of it; errors end the command with 1."""

    async def over_a_channel() -> str:
        async with controlling(target.url, target.ca_path) as control:
            return await work(control)

    console.print(f"[green]done[/] {escape(asyncio.run(over_a_channel()))}")
