"""Secrets as files: `NAME_FILE` beside `NAME`, and Docker's folder of secrets.

In each layer `NAME_FILE` wins over `NAME`; a file in the folder of secrets wins over all layers.
Only settings that hold a secret can be given so. A closing line break is no part of a secret.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from domain.errors import HsiError

SECRETS_VARIABLE: Final = "HSI_SECRETS_DIR"
DEFAULT_SECRETS_DIR: Final = "/run/secrets"
FILE_SUFFIX: Final = "_FILE"
MOST_BYTES: Final = 64 * 1024

SECRET_NAMES: Final = frozenset(
    {
        "API_KEYS",
        "DATABASE_URL",
        "DEFAULT_WEBHOOK_URL",
        "HSI_API_KEY",
        "NEMOTRON_API_KEY",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "REDIS_URL",
    }
)
"""Settings that may be given as a file: those that are a secret or carry one."""


class SecretFileError(HsiError):
    """A file that should hold a secret cannot be used."""


def file_names(names: frozenset[str]) -> Mapping[str, str]:
    """Return `NAME_FILE` → `NAME` for those of `names` that may be given as a file."""
    return {f"{name}{FILE_SUFFIX}": name for name in names & SECRET_NAMES}


def read_secret(path: Path) -> str:
    """Return the secret in a file; raises SecretFileError that says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise SecretFileError(f"{path} has {len(data)} bytes; a secret has at most {MOST_BYTES}")
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise SecretFileError(f"{path} is not UTF-8 text (byte {error.start})") from error
    if not text:
        raise SecretFileError(f"{path} is empty: write the secret into it, or remove the file")
    return text


def exposed(path: Path) -> str | None:
    """Return a warning when every account of this machine may read a file with a secret."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & stat.S_IRWXO:
        return None
    return f"{path}: every account may read this secret (mode {mode:o}): chmod 600 {path}"


def in_folder(folder: Path, names: frozenset[str]) -> Mapping[str, Path]:
    """Return setting → its file in the folder of secrets, named like it or in small letters."""
    if not folder.is_dir():
        return {}
    found = {
        name: folder / spelling
        for name in sorted(names & SECRET_NAMES)
        for spelling in (name, name.lower())
        if (folder / spelling).is_file()
    }
    return found
