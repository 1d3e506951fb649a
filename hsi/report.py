"""What `hsi up` tells once everything answers: to people as lines, to programs as a file."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hsi.keeper import Keeper
from hsi.language_model import EmbeddedModel
from hsi.plan import Places
from inference.weights import detector_in
from runtime.embedded import EmbeddedServers
from runtime.masking import mask_urls
from runtime.settings import Settings


def places(settings: Settings, where: Places, model: EmbeddedModel | None) -> list[str]:
    """Return where everything is and which models run, one line each."""
    return [
        f"{settings.app_name} {settings.app_version} is up",
        f"  page        {where.base_url}/",
        f"  API         {where.base_url}/api/events",
        f"  cameras     {where.cameras}  (one folder a camera; drop pictures there)",
        f"  state       {where.state}",
        f"  logs        {where.logs}",
        f"  detector    {_detector(settings)}",
        f"  risk        {_risk(settings, model)}",
    ]


def _detector(settings: Settings) -> str:
    if settings.rtdetr_url is not None:
        return mask_urls(settings.rtdetr_url)
    runs = detector_in(settings.models_dir)
    if runs is None:
        return "none"
    weaker = " (the fall-back: it misses more than RT-DETRv2)" if runs.fallback else ""
    return f"{runs.title}, embedded{weaker}"


def _risk(settings: Settings, model: EmbeddedModel | None) -> str:
    if settings.nemotron_url is not None:
        return f"rules at once, then the model at {mask_urls(settings.nemotron_url)}"
    if model is None:
        return "rules alone (EMBEDDED_LLM=off)"
    return f"rules at once, then {model.artefact.title}, embedded"


def process_ids(keepers: Iterable[Keeper], servers: EmbeddedServers) -> dict[str, int]:
    """Return the process id of every role; roles that share a process have the same one."""
    found = {"supervisor": os.getpid(), **servers.pids}
    for keeper in keepers:
        if (pid := keeper.pid) is not None:
            found |= dict.fromkeys(keeper.role.contains, pid)
    return found


def write(file: Path | None, where: Places, pids: Mapping[str, int]) -> None:
    """Write the ready file, whole or not at all."""
    if file is None:
        return
    told = {
        "base_url": where.base_url,
        "pids": dict(pids),
        "state": str(where.state),
        "cameras": str(where.cameras),
        "logs": str(where.logs),
    }
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    draft.write_text(json.dumps(told, indent=2) + "\n")
    draft.replace(file)


def remove(file: Path | None) -> None:
    """Take the ready file away: nothing answers any more, or not yet."""
    if file is not None:
        file.unlink(missing_ok=True)
