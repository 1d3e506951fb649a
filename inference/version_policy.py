"""Which version of a model its config.pbtxt lets Triton serve: read, and pinned to one.

The file belongs to the operator: only its version_policy changes, comments stay.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from domain.errors import PermanentError

CONFIG = "config.pbtxt"
_WEIGHTS = re.compile(r'(key:\s*"weights"\s*value:?\s*\{\s*string_value:\s*")[^"]*(")')
_BEGIN = re.compile(r"^[ \t]*version_policy\s*:?\s*\{", re.MULTILINE)


def pinned_version(config: Path) -> int | None:
    """Return the one version that a config.pbtxt pins; None where it leaves that to Triton."""
    policy = _parsed(config, _read(config)).version_policy
    versions = list(policy.specific.versions)
    return int(versions[0]) if len(versions) == 1 else None


def pin(config: Path, version: int, weights: str | None = None) -> str:
    """Let a config.pbtxt serve this version and no other, in one step; return what it said before.

    `weights` says what the version was made from, empty where nobody knows; None leaves what the
    file says. Raises PermanentError for a file that Triton could not read either.
    """
    before = _read(config)
    policy = f"version_policy: {{ specific: {{ versions: [ {version} ] }} }}"
    begin, end = _span(before)
    after = _told(before[:begin] + policy + before[end:], weights)
    wanted = _parsed(config, _told(before, weights))
    wanted.version_policy.Clear()
    wanted.version_policy.specific.versions.append(version)
    if _parsed(config, after) != wanted:
        raise PermanentError(f"{config}: its version_policy cannot be found; set it by hand")
    write(config, after)
    return before


def nameless(config: Path, version: int, weights: str | None = None) -> str:
    """Return a config.pbtxt for a folder of another name that serves this version alone."""
    parsed = _parsed(config, _told(_read(config), weights))
    parsed.ClearField("name")
    parsed.version_policy.Clear()
    parsed.version_policy.specific.versions.append(version)
    return str(text_format.MessageToString(parsed))


def write(config: Path, text: str) -> None:
    """Replace a config.pbtxt in one step: Triton reads the one or the other, never a half."""
    draft = config.with_name(f".{config.name}.draft")
    try:
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if config.exists():
            shutil.copymode(config, draft)
        draft.replace(config)
    except OSError as error:
        raise PermanentError(f"{config} cannot be written: {error.strerror}") from error


def _told(text: str, weights: str | None) -> str:
    """Say in the parameter `weights` what the version was made from."""
    if weights is None:
        return text
    plain = "".join(c for c in weights if c.isprintable() and c not in '"\\')
    return _WEIGHTS.sub(lambda found: found[1] + plain + found[2], text)


def _read(config: Path) -> str:
    try:
        return config.read_text()
    except OSError as error:
        raise PermanentError(f"{config} cannot be read: {error.strerror}") from error


def _parsed(config: Path, text: str) -> Any:  # noqa: ANN401 - a generated protobuf class
    parsed = ModelConfig()
    try:
        text_format.Parse(text, parsed)
    except text_format.ParseError as error:
        raise PermanentError(f"{config} is no model configuration: {error}") from error
    return parsed


def _span(text: str) -> tuple[int, int]:
    """Return where the version_policy stands; the end of the file where there is none."""
    found = _BEGIN.search(text)
    if found is None:
        return len(text), len(text)
    begin = found.start() + len(found.group()) - len(found.group().lstrip())
    depth, end = 1, found.end()
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return begin, end
