"""Where a file of a camera folder stands, asked as anybody may: over the API."""

import asyncio
import os
import urllib.error
from hashlib import sha256
from pathlib import Path
from typing import Any

from support.installation import Installation

from domain import ids

Json = Any


def file_ids(installation: Installation, path: Path | bytes) -> list[str]:
    """Return the ids of the file that lies there now: rejected, or with its content."""
    raw = os.fsencode(path)
    below = os.fsdecode(raw[len(os.fsencode(installation.cameras.resolve())) + 1 :])
    folder, slash, _ = below.partition("/")
    camera = ids.camera_id(folder) if slash else "unassigned"
    status = os.lstat(raw)
    digest = sha256(Path(os.fsdecode(raw)).read_bytes()).hexdigest()
    return [ids.file_id(camera, below, each, status.st_mtime_ns) for each in ("", digest)]


async def file_of(installation: Installation, wanted: list[str] | Path | bytes) -> Json:
    """Return what the API says of a file; its state is None as long as it knows of none."""
    if not isinstance(wanted, list):
        wanted = file_ids(installation, wanted)
    return await asyncio.to_thread(_first, installation, wanted)


def _first(installation: Installation, wanted: list[str]) -> Json:
    for file_id in wanted:
        try:
            return installation.get(f"/api/files/{file_id}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
    return {"state": None, "reason": None}
