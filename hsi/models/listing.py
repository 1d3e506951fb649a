"""`hsi models list`: which model files lie where, which of them Triton serves, and what runs."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from domain.errors import HsiError, PermanentError
from hsi.models.control import REPOSITORY, Repository, Url, triton_url
from hsi.models.fetch import tell_detector
from inference import weights
from inference.model_control import LoadedVersion, controlling
from inference.repository import Repository as ModelRepository
from inference.repository import sha256_and_size
from inference.version_policy import CONFIG
from inference.weights import Artefact
from runtime.settings import Settings, load_settings

BY_HAND = "put here by hand"


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of a model in Triton's repository."""

    model: str
    version: int
    variant: str
    weights: str
    """Which weights it was made from; empty where nobody said."""
    size: int
    sha256: str
    files: str
    """present, verified, damaged, put here by hand, or that there is none."""
    state: str
    """What the server says: READY, LOADING, …; `not loaded`; empty where no server was asked."""


File = tuple[Artefact, str, str | None]
"""An artefact of the catalogue, a word for what lies there, and its checksum where known."""


def show(
    verify: Annotated[bool, typer.Option(help="Read every file and compare checksums.")] = False,
    url: Url = None,
    repository: Repository = REPOSITORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Show which models lie where, their version, checksum, size and licence, and what is loaded.

    Ends with 1 when a file is damaged, or the server of --url does not answer.

    Examples: `hsi models list` · `hsi models list --verify` ·
    `hsi models list --url grpc://gpu-box:8001 --repository /srv/models --json`
    """
    settings = load_settings(env_file)
    if url is not None:
        triton_url(settings, url)
    server, loaded = _asked(settings, url)
    installed = installed_in(ModelRepository(repository), loaded, verify=verify)
    files = files_of(settings.models_dir, verify=verify)
    if as_json:
        cache = [
            {"name": a.name, "version": a.version, "files": state, "sha256": sha256}
            for a, state, sha256 in files
        ]
        repository_rows = [asdict(version) for version in installed]
        print(json.dumps({"cache": cache, "server": server, "repository": repository_rows}))
    else:
        console = Console(highlight=False, soft_wrap=True)
        _tell_cache(console, settings.models_dir, files)
        _tell_repository(console, repository, server, installed)
    states = [state for _, state, _ in files] + [version.files for version in installed]
    if "damaged" in states or (url is not None and loaded is None):
        raise typer.Exit(1)


def _tell_cache(console: Console, models_dir: Path, files: Sequence[File]) -> None:
    console.print(f"Models folder: {models_dir}")
    for artefact, state, sha256 in files:
        console.print(
            f"[bold]{artefact.name:<20}[/] {state:<16} {artefact.title}\n"
            f"{'':<20} version {artefact.version}, {artefact.size / 1e6:,.0f} MB, "
            f"{artefact.licence}, sha256 {(sha256 or artefact.sha256 or 'of conversion')[:16]}",
            style=None if sha256 else "dim",
        )
    tell_detector(console, models_dir)


def _tell_repository(
    console: Console, repository: Path, server: str, installed: Sequence[Installed]
) -> None:
    console.print(f"\nTriton's repository: {repository}")
    if server:
        console.print(escape(server))
    if not installed:
        console.print("No version of a model lies there: `hsi models install` adds one.")
    for version in installed:
        style = {"READY": "green", "UNAVAILABLE": "red"}.get(version.state, "")
        state = f"[{style}]{version.state}[/]" if style else version.state
        console.print(
            f"[bold]{version.model:<20}[/] version {version.version}, {version.variant}"
            f"{f', {escape(version.weights)}' if version.weights else ''}, {version.files}"
            f"{f', {state}' if state else ''}\n"
            f"{'':<20} {version.size / 1e6:,.1f} MB, sha256 {version.sha256[:16] or 'unknown'}"
        )


def _asked(settings: Settings, url: str | None) -> tuple[str, tuple[LoadedVersion, ...] | None]:
    """Return a line about the Triton server and what it has loaded; None where none is asked."""
    wanted = url or settings.rtdetr_url or ""
    if urlsplit(wanted).scheme not in ("grpc", "grpcs"):
        return "", None

    async def ask() -> tuple[str, tuple[LoadedVersion, ...]]:
        async with controlling(wanted, settings.ai_ca_path) as control:
            return f"Server: {wanted}, {await control.server()}", await control.index()

    try:
        return asyncio.run(ask())
    except HsiError as error:
        return f"Server: {wanted} does not answer: {error}", None


def installed_in(
    repository: ModelRepository, loaded: tuple[LoadedVersion, ...] | None, *, verify: bool
) -> list[Installed]:
    """Return every version that lies in a repository, with what a server says of it.

    Raises PermanentError for a folder that is not there.
    """
    folder = repository.folder
    if not folder.is_dir():
        raise PermanentError(f"--repository {folder} is no folder that this machine sees")
    models = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    return [
        _version(repository, model, version, loaded, verify=verify)
        for model in models
        for version in repository.versions(model)
    ]


def _version(
    repository: ModelRepository,
    model: str,
    version: int,
    loaded: tuple[LoadedVersion, ...] | None,
    *,
    verify: bool,
) -> Installed:
    try:
        manifest = repository.manifest(model, version)
        variant = repository.variant_of(model)
    except PermanentError:
        # Not one of ours, or its manifest is broken: shown all the same.
        manifest, variant = None, None
    name = manifest.file if manifest else variant.file if variant else ""
    path = repository.folder / model / str(version) / name
    files, sha256, size = BY_HAND, manifest.sha256 if manifest else "", 0
    if not name or not path.is_file():
        files = "no weights file"
    else:
        size = path.stat().st_size
        if verify or manifest is None:
            actual, size = sha256_and_size(path)
            right = sha256 in ("", actual)
            files, sha256 = (("verified" if sha256 else BY_HAND) if right else "damaged"), actual
        else:
            files = "present" if size == manifest.size else "damaged"
    return Installed(
        model=model,
        version=version,
        variant=variant.name if variant else "other",
        weights=manifest.weights if manifest else "",
        size=size,
        sha256=sha256,
        files=files,
        state=_loaded(model, version, loaded),
    )


def files_of(models_dir: Path, *, verify: bool) -> list[File]:
    """Return what lies in the models folder, by the catalogue."""
    return [
        (artefact, *_state(artefact, models_dir, verify=verify))
        for artefact in weights.CATALOGUE.values()
    ]


def _loaded(model: str, version: int, loaded: tuple[LoadedVersion, ...] | None) -> str:
    if loaded is None:
        return ""
    for entry in loaded:
        if (entry.model, entry.version) == (model, str(version)) and entry.state:
            return f"{entry.state} ({entry.reason})" if entry.reason else entry.state
    return "not loaded"


def _state(artefact: Artefact, models_dir: Path, *, verify: bool) -> tuple[str, str | None]:
    """Return a word for what lies there, and its checksum when one is known."""
    path = artefact.path(models_dir)
    if not path.is_file():
        return "absent", None
    manifest = weights.read_manifest(artefact, models_dir)
    expected = manifest.sha256 if manifest else None
    if verify:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if expected not in (None, actual):
            return "damaged", actual
        return ("verified" if expected else BY_HAND), actual
    if manifest is None:
        damaged = weights.manifest_path(path).exists()
        return ("damaged" if damaged else BY_HAND), None
    return ("present" if weights.is_current(artefact, manifest) else "outdated"), expected
