"""Switching which version of a model Triton serves, with a picture as the judge of each step.

A switch goes through these steps, and ends at the first that fails:

1. The new version is loaded beside the old one under another model name, and must see in the
   golden picture what is there. Until then nothing that serves is touched.
2. config.pbtxt is pinned to the new version, and the model is loaded: Triton goes on with the old
   version until the new one is ready, and lets the old one finish what it has in hand.
3. What serves now must be the new version, and must see the same once more. Else config.pbtxt gets
   its old words back, the old version is loaded, and judged as well.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from domain.errors import HsiError, PermanentError
from inference.model_control import ModelControl
from inference.ports import Detected, Picture
from inference.repository import Repository
from inference.triton import TritonDetector, TritonOptions
from inference.version_policy import CONFIG, nameless, pin, write

CANDIDATE = "candidate"
"""Ending of the name under which a version is tried before it serves."""
SWITCHES = "switches.jsonl"
"""In the model's folder: every switch that succeeded, the last one last."""


class SwitchError(PermanentError):
    """A version does not serve, or not as it must; the message says what serves now."""


class Switch(msgspec.Struct, frozen=True):
    """One line of SWITCHES."""

    switched_at: datetime
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Golden:
    """A picture, and what every good detector sees in it."""

    picture: Picture
    wanted: Mapping[str, float]
    """Label → the score that it must reach."""

    def judge(self, seen: Detected) -> str:
        """Return what was seen, for people; raises SwitchError when something is missing."""
        best = dict.fromkeys(self.wanted, 0.0)
        for box in seen.boxes:
            best[box.label] = max(best.get(box.label, 0.0), box.score)
        told = ", ".join(f"{label} {best[label]:.2f}" for label in self.wanted)
        missing = [label for label, score in self.wanted.items() if best[label] < score]
        if missing:
            raise SwitchError(
                f"version {seen.identity.version} does not see {', '.join(missing)} in "
                f"{self.picture.name} as it must: {told}"
            )
        return told


@dataclass(frozen=True, slots=True)
class Target:
    """A model on a server, and the folder that the server reads it from."""

    url: str
    model: str
    folder: Path
    ca_path: Path | None = None
    read_timeout: float = 60.0

    @asynccontextmanager
    async def detector(self, model: str) -> AsyncIterator[TritonDetector]:
        """Open a detector that asks the server for `model`, until the block ends."""
        options = TritonOptions(
            model=model, ca_path=self.ca_path, read_timeout=self.read_timeout, repair=False
        )
        detector = TritonDetector(self.url, options)
        try:
            yield detector
        finally:
            await detector.close()


async def judged(target: Target, golden: Golden, *, model: str = "", version: int = 0) -> str:
    """Let a model look at the golden picture; return the version that did, and what it saw.

    Raises SwitchError when it misses something, or when it is not the `version` wanted.
    """
    async with target.detector(model or target.model) as detector:
        (seen,) = await detector.detect([golden.picture])
    answered = seen.identity.version
    if version and answered.partition(":")[0] != str(version):
        raise SwitchError(
            f"{target.url} answered with version {answered}, wanted {version}: does the server "
            f"read its models from {target.folder.parent}?"
        )
    return f"version {answered} saw {golden.judge(seen)}"


async def switch(control: ModelControl, target: Target, version: int, golden: Golden) -> str:
    """Let the server serve this version; return what it saw in the golden picture.

    Raises SwitchError, naming what serves, when the version does not load or does not see what it
    must; what served before serves on.
    """
    folder = target.folder
    if not (folder / str(version)).is_dir():
        raise SwitchError(
            f"{folder} has no version {version}; it has {versions_text(folder) or 'none'}"
        )
    with _alone(folder):
        ready = await control.ready(target.model)
        before = int(ready[-1]) if ready else 0
        if before == version:
            return await judged(target, golden, version=version)
        await _try_beside(control, target, version, golden)
        words = pin(folder / CONFIG, version, _weights(target, version))
        try:
            await control.load(target.model)
            seen = await judged(target, golden, version=version)
        except HsiError as error:
            raise await _returned(control, target, words, before, golden, error) from error
        if before:
            _note(folder, Switch(datetime.now(UTC), before, version))
        return seen


def last_switch(folder: Path) -> Switch | None:
    """Return the last switch of the model in `folder` that succeeded."""
    try:
        lines = (folder / SWITCHES).read_bytes().splitlines()
        return msgspec.json.decode(lines[-1], type=Switch) if lines else None
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise PermanentError(f"{folder / SWITCHES}: its last line is broken: {error}") from error


def versions_of(folder: Path) -> list[int]:
    """Return the versions that lie in a model's folder, lowest first."""
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdecimal())


def versions_text(folder: Path) -> str:
    """Return the same for people."""
    return ", ".join(map(str, versions_of(folder)))


async def _try_beside(control: ModelControl, target: Target, version: int, golden: Golden) -> None:
    """Load the version under another name, let it look at the golden picture, unload it."""
    folder = target.folder.with_name(f"{target.model}_{CANDIDATE}")
    # A switch that was killed may have left one behind.
    await _remove(control, folder)
    try:
        _lay_beside(target, version, folder)
        await control.load(folder.name)
        await judged(target, golden, model=folder.name, version=version)
    except HsiError as error:
        raise SwitchError(f"nothing was switched: {error}") from error
    finally:
        await _remove(control, folder)


def _lay_beside(target: Target, version: int, folder: Path) -> None:
    """Make the candidate's folder: its own config, links to everything else."""
    try:
        folder.mkdir()
        write(
            folder / CONFIG, nameless(target.folder / CONFIG, version, _weights(target, version))
        )
        linked = [target.folder / str(version)]
        linked += [p for p in target.folder.iterdir() if p.is_file() and p.name != CONFIG]
        for path in linked:
            # Relative: the server may know the repository under another path (in a container).
            (folder / path.name).symlink_to(Path("..") / target.model / path.name)
    except OSError as error:
        raise PermanentError(f"{folder} cannot be written: {error.strerror}") from error


def _weights(target: Target, version: int) -> str:
    """Return which weights a version was made from; empty where nobody wrote it down."""
    manifest = Repository(target.folder.parent).manifest(target.model, version)
    return manifest.weights if manifest else ""


async def _remove(control: ModelControl, folder: Path) -> None:
    """Unload a candidate and delete its folder."""
    if await asyncio.to_thread(folder.is_dir):
        try:
            await control.unload(folder.name)
        finally:
            shutil.rmtree(folder)


async def _returned(
    control: ModelControl,
    target: Target,
    words: str,
    before: int,
    golden: Golden,
    error: HsiError,
) -> SwitchError:
    """Go back to what config.pbtxt said; return the error that tells how that went."""
    write(target.folder / CONFIG, words)
    if not before:
        return SwitchError(f"{error}; {CONFIG} says what it said before, nothing serves")
    try:
        await control.load(target.model)
        seen = await judged(target, golden)
    except HsiError as second:
        return SwitchError(f"{error}; and going back failed as well: {second}")
    return SwitchError(f"{error}; back on {seen}")


def _note(folder: Path, switch: Switch) -> None:
    with (folder / SWITCHES).open("ab") as file:
        file.write(msgspec.json.encode(switch) + b"\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the model's folder: two switches at once would each undo the other's."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise SwitchError(f"{folder}: another switch or installation is under way") from error
    finally:
        os.close(handle)
