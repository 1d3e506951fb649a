"""Where a checkpoint comes from: a local folder, or a hub at a pinned revision."""

import asyncio
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from domain.errors import PermanentError, TransientError
from inference.repository import sha256_and_size
from inference.weights import HubFile

WEIGHTS: Final = "model.safetensors"
FILES: Final = ("config.json", WEIGHTS)
DEFAULT: Final = "PekingU/rtdetr_v2_r18vd"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_REVISION = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=30)
_LARGEST = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Pin:
    """A revision on the hub, and the checksums of its files as far as we know them."""

    revision: str
    sha256: dict[str, str] = field(default_factory=dict)


PINS: Final = {
    DEFAULT: Pin(
        "5650961749fa93567c0d46fc7f43ea4f9e914107",
        {
            "config.json": "ed051ec77cb41c5d9d5e3af21a979b1e890599dfd68434d7636ff82ded4c1527",
            WEIGHTS: "d18309d0d7ea57048138885c4c6ecfcb1e24506fc6153b94ad484f8ab62c7115",
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that lies on this machine."""

    folder: Path
    source: str

    @property
    def version(self) -> str:
        """Return a short text that names these weights and no others."""
        sha256, _ = sha256_and_size(self.folder / WEIGHTS)
        name = re.sub(r"[^\w.-]", "-", self.source.partition("@")[0].rpartition("/")[2])
        return f"{name.removeprefix('rtdetr_v2_')[:60]}-{sha256[:8]}"


def find(named: str, cache: Path, hub_url: str) -> Checkpoint:
    """Return the checkpoint that `named` means: an existing folder, or NAME or NAME@REVISION.

    Raises PermanentError for a name that means nothing or files that are wrong, TransientError
    where the hub does not answer.
    """
    folder = Path(named)
    if folder.is_dir():
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise PermanentError(
                f"{folder} has no {' and no '.join(missing)}: a checkpoint is a folder with "
                "config.json and model.safetensors (pickled weights are not read)"
            )
        return Checkpoint(folder.absolute(), folder.absolute().name)
    name, pin = _pinned(named)
    target = cache / f"{name.replace('/', '--')}@{pin.revision[:12]}"
    for file in FILES:
        if not (target / file).is_file():
            _fetch(HubFile(name, file, pin.revision).url(hub_url), target / file, pin)
    return Checkpoint(target, f"{name}@{pin.revision}")


def _pinned(named: str) -> tuple[str, Pin]:
    name, _, revision = named.partition("@")
    if not _NAME.fullmatch(name) or (revision and not _REVISION.fullmatch(revision)):
        raise PermanentError(
            f"{named} is neither a folder nor OWNER/NAME@REVISION (40 hex digits of a commit)"
        )
    known = PINS.get(name)
    if known is not None and revision in ("", known.revision):
        return name, known
    if not revision:
        raise PermanentError(
            f"{name} has no pinned revision here: write {name}@REVISION with the 40 hex digits of "
            f"the commit that you have looked at (known: {', '.join(PINS)})"
        )
    return name, Pin(revision)


def _fetch(url: str, target: Path, pin: Pin) -> None:
    """Download one file; nothing wrong or incomplete ever has its name."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = asyncio.run(_save(url, part))
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise TransientError(f"{url} cannot be had: {reason}") from error
    except OSError as error:
        raise PermanentError(f"{target} cannot be written: {error.strerror}") from error
    wanted = pin.sha256.get(target.name)
    if wanted not in (None, digest):
        part.unlink()
        raise PermanentError(f"{url} has the checksum {digest}, not {wanted}: it is not used")
    part.rename(target)


async def _save(url: str, part: Path) -> str:
    digest, size = hashlib.sha256(), 0
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
        session.get(url) as response,
    ):
        if response.status != 200:
            raise TransientError(f"{url} answered {response.status} {response.reason}")
        with part.open("wb") as file:
            async for chunk in response.content.iter_chunked(1 << 20):
                size += len(chunk)
                if size > _LARGEST:
                    raise PermanentError(f"{url} is larger than the {_LARGEST >> 30} GiB allowed")
                file.write(chunk)
                digest.update(chunk)
    return digest.hexdigest()
