"""Where settings come from: `.env`, then `data/runtime.env`, then the environment; the last wins.

Names are exact and in capitals. An empty value counts as not given, so that
`REDIS_URL=${REDIS_URL:-}` in a compose file means what it looks like. Values are taken as they
stand: nothing is expanded inside them. Secrets may stand in files: runtime/secret_files.py.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

from runtime.secret_files import (
    DEFAULT_SECRETS_DIR,
    SECRETS_VARIABLE,
    SecretFileError,
    exposed,
    file_names,
    in_folder,
    read_secret,
)

ENV_FILE_VARIABLE = "HSI_ENV_FILE"
RUNTIME_ENV_VARIABLE = "HSI_RUNTIME_ENV_PATH"
DEFAULT_ENV_FILE = Path(".env")
DEFAULT_RUNTIME_ENV_FILE = Path("data/runtime.env")
ENVIRONMENT = "environment"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Found:
    """A value as text and the layer it was found in."""

    value: str
    source: str


@dataclass(slots=True)
class Layers:
    """What all layers together say."""

    values: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    runtime_file: Path = DEFAULT_RUNTIME_ENV_FILE
    """Where `data/runtime.env` is, or would be."""
    runtime_lines: dict[str, Found] = field(default_factory=dict)
    """What that file says, also where a later layer wins."""


def read_layers(
    names: frozenset[str], env_file: Path | None, environ: Mapping[str, str]
) -> Layers:
    """Read every layer and keep, for each of `names`, the value of the last one that has it."""
    layers = Layers()
    secret_files = file_names(names)
    known = names | {ENV_FILE_VARIABLE, RUNTIME_ENV_VARIABLE, SECRETS_VARIABLE}
    known |= secret_files.keys()
    if env_file is None and (named := environ.get(ENV_FILE_VARIABLE)):
        env_file = Path(named)
    if env_file is not None and not env_file.exists():
        layers.problems.append(f"{env_file}: this settings file does not exist")
    _read_file(layers, env_file or DEFAULT_ENV_FILE, known)
    _read_secrets(layers, secret_files)
    named = environ.get(RUNTIME_ENV_VARIABLE) or _value(layers, RUNTIME_ENV_VARIABLE)
    if named and not Path(named).exists():
        layers.warnings.append(
            f"{RUNTIME_ENV_VARIABLE} names {named}, which does not exist: nothing was read from it"
        )
    layers.runtime_file = Path(named) if named else DEFAULT_RUNTIME_ENV_FILE
    layers.runtime_lines = _read_file(layers, layers.runtime_file, known)
    _read_secrets(layers, secret_files)
    for name in sorted(known):
        if value := environ.get(name):
            layers.values[name] = Found(value, ENVIRONMENT)
    _read_secrets(layers, secret_files)
    folder = Path(_value(layers, SECRETS_VARIABLE) or DEFAULT_SECRETS_DIR)
    for name, path in in_folder(folder, names).items():
        _take_secret(layers, name, path)
    # Only names that begin like ours: the environment is full of other programs' variables.
    for name in sorted(name for name in environ if name.startswith("HSI_") and name not in known):
        layers.warnings += _typo(name, ENVIRONMENT, known)
    return layers


def _read_secrets(layers: Layers, secret_files: Mapping[str, str]) -> None:
    """Put the content of each `NAME_FILE` that the last layer had in the place of `NAME`."""
    for named, name in secret_files.items():
        if (found := layers.values.pop(named, None)) is not None:
            _take_secret(layers, name, Path(found.value), found.source)


def _take_secret(layers: Layers, name: str, path: Path, source: str = "") -> None:
    try:
        value = read_secret(path)
        if source and (warning := exposed(path)) is not None:
            layers.warnings.append(warning)
    except SecretFileError as error:
        layers.problems.append(f"{name}: {error}" + (f" (from {source})" if source else ""))
        return
    layers.values[name] = Found(value, f"{source}: {path}" if source else str(path))


def _value(layers: Layers, name: str) -> str | None:
    found = layers.values.get(name)
    return found.value if found else None


def _read_file(layers: Layers, path: Path, known: frozenset[str]) -> dict[str, Found]:
    """Take over what a file says, and return it."""
    found: dict[str, Found] = {}
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except OSError as error:
        layers.problems.append(f"{path}: cannot be read ({error.strerror})")
        return found
    except UnicodeDecodeError as error:
        layers.problems.append(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8")
        return found
    for binding in parse_stream(io.StringIO(text)):
        place = f"{path}:{_first_line(binding.original.string, binding.original.line)}"
        if binding.error:
            layers.problems.append(f"{place}: is not NAME=value: correct or remove that line")
        elif binding.key in known and binding.value:
            found[binding.key] = Found(binding.value, place)
        elif binding.key and binding.key not in known:
            layers.warnings += _typo(binding.key, place, known)
    layers.values |= found
    return found


def stands_in_file(found: Found) -> bool:
    """Say whether a value stands in `.env` or `data/runtime.env`: a child finds it there, too."""
    return found.source.rpartition(":")[2].isdecimal()


def _first_line(original: str, line: int) -> int:
    """Return the line that a binding begins on: its text starts with the blank lines before."""
    blank = original[: len(original) - len(original.lstrip())]
    return line + blank.count("\n")


def _typo(name: str, place: str, known: frozenset[str]) -> list[str]:
    match = get_close_matches(name.upper(), known, n=1, cutoff=0.85)
    if not match:
        return []
    return [f"{place}: {name} is not a setting and has no effect: is {match[0]} meant?"]
