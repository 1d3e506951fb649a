"""`hsi models doctor`: whether this machine can run what is configured, line by line."""

import asyncio
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from domain.errors import HsiError
from hsi.models.control import REPOSITORY, Repository, Url
from hsi.models.findings import Finding, Status, of_machine, of_plan
from hsi.models.listing import Installed, files_of, installed_in
from inference import weights
from inference.detectors import DetectorOptions, open_detector
from inference.machine import Machine, look
from inference.repository import Repository as ModelRepository
from runtime.settings import Settings, load_settings

_STYLES: dict[Status, str] = {"pass": "green", "warn": "yellow", "fail": "bold red", "fact": "dim"}
_STATUS_OF_FILES: dict[str, Status] = {"verified": "pass", "damaged": "fail"}
_PACKAGES = ("tritonclient", "grpcio", "protobuf", "onnxruntime", "numpy")
_HERE = ("127.0.0.1", "localhost", "::1")


def doctor(
    url: Url = None,
    repository: Repository = REPOSITORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check processor, memory, disk, GPU, driver, TensorRT, plans, weights, and the detector.

    Each line is pass, warn, fail, or a fact that nothing here depends on (a missing GPU, say).
    Every file is read and compared with its checksum. Ends with 1 when a line says fail.

    Examples: `hsi models doctor` · `hsi models doctor --url grpc://gpu-box:8001 --json`
    """
    settings = load_settings()
    findings = list(_findings(settings, url or settings.rtdetr_url, repository))
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        _tell(findings)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _tell(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        status = f"[{_STYLES[finding.status]}]{finding.status}[/]"
        console.print(f"{status}  {escape(finding.about):<{width}}  {escape(finding.told)}")


def _findings(settings: Settings, url: str | None, folder: Path) -> Iterator[Finding]:
    machine = look(settings.models_dir)
    repository = ModelRepository(folder)
    installed = installed_in(repository, None, verify=True)
    yield _of_versions()
    yield from of_machine(machine, gpu_needed=_gpu_needed(url, installed))
    yield from _of_cache(settings)
    yield from _of_repository(repository, installed, machine)
    yield asyncio.run(_of_detector(settings, url))


def _gpu_needed(url: str | None, installed: list[Installed]) -> str:
    """Say what needs a GPU in this machine; empty when nothing does."""
    parts = urlsplit(url or "")
    plans = [entry for entry in installed if entry.variant == "tensorrt"]
    if parts.scheme in ("grpc", "grpcs") and parts.hostname in _HERE and plans:
        return f"{plans[0].model} version {plans[0].version}, which {url} serves, is for a GPU"
    return ""


def _of_versions() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    own = version("home-security-intelligence")
    return Finding(
        "versions", "fact", f"hsi {own}, Python {platform.python_version()}, {packages}"
    )


def _of_cache(settings: Settings) -> Iterator[Finding]:
    for artefact, state, sha256 in files_of(settings.models_dir, verify=True):
        if state == "absent":
            continue
        told = f"{state}, version {artefact.version}, sha256 {(sha256 or 'unknown')[:16]}"
        yield Finding(f"weights {artefact.name}", _STATUS_OF_FILES.get(state, "warn"), told)
    runs = weights.detector_in(settings.models_dir)
    if runs is None and settings.rtdetr_url is None:
        yield Finding("detector's weights", "fail", "none: run `hsi models fetch detector`")


def _of_repository(
    repository: ModelRepository, installed: list[Installed], machine: Machine
) -> Iterator[Finding]:
    for entry in installed:
        if not entry.sha256:
            continue
        status = _STATUS_OF_FILES.get(entry.files, "warn")
        told = f"{entry.files}, {entry.variant}, sha256 {entry.sha256[:16]}"
        yield Finding(f"model {entry.model} {entry.version}", status, told)
        manifest = repository.manifest(entry.model, entry.version)
        if manifest is not None and entry.variant == "tensorrt":
            yield of_plan(manifest, machine)


async def _of_detector(settings: Settings, url: str | None) -> Finding:
    """Ask the configured detector to look at a picture."""
    options = DetectorOptions(
        settings.models_dir,
        connect_timeout=settings.ai_connect_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.ai_ca_path,
        repair=False,
    )
    where = url or "embedded"
    detector = open_detector(url, options)
    try:
        identity = await detector.check()
    except HsiError as error:
        return Finding("detector", "fail", str(error))
    finally:
        await detector.close()
    told = f"{where} answers: {identity.model} {identity.version}"
    if identity.fallback:
        return Finding("detector", "warn", f"{told}, the weaker fall-back")
    return Finding("detector", "pass", told)
