"""The prompts as files: one folder a version, and a manifest that pins what each one says.

A version's text never changes: whoever wants other words makes a new folder, so that
`prompt_version` on an event means one text for ever. The checksum is taken over the conversation's
static part as it is sent: a changed rule that alters an example's question needs a new version.
"""

from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from domain.errors import HsiError
from domain.prompt import Example, Prompt

FOLDER: Final = Path(__file__).parent
MANIFEST: Final = "manifest.json"

_T = TypeVar("_T")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version in the manifest."""

    since: str
    about: str
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions there are, and which one is asked with."""

    current: str
    versions: dict[str, Entry]


class PromptError(HsiError):
    """A prompt cannot be used as its files stand."""


@cache
def load_prompt(version: str | None = None, folder: Path = FOLDER) -> Prompt:
    """Return a version of the prompt, by default the current one.

    Raises PromptError for a version that is not there, or that says something else than the
    manifest pins.
    """
    manifest = _read(folder / MANIFEST, Manifest)
    wanted = version or manifest.current
    entry = manifest.versions.get(wanted)
    if entry is None:
        known = ", ".join(manifest.versions)
        raise PromptError(f"there is no prompt {wanted!r} in {folder}; there are: {known}")
    prompt = _load(folder / wanted)
    if (actual := prompt.sha256()) != entry.sha256:
        raise PromptError(
            f"the prompt {wanted} in {folder} was changed: its checksum is {actual}, {MANIFEST}"
            f" says {entry.sha256}. A version keeps its words: put the change into a new folder"
            " with an entry of its own"
        )
    return prompt


def _load(folder: Path) -> Prompt:
    examples = _read(folder / "examples.json", tuple[Example, ...])
    try:
        system = (folder / "system.txt").read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise PromptError(f"cannot read the prompt {folder / 'system.txt'}: {error}") from error
    return Prompt(folder.name, system, examples)


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        todo = (
            "install the product again"
            if path.is_relative_to(FOLDER)
            else f"a folder of prompts holds {MANIFEST} and a folder a version"
        )
        raise PromptError(f"cannot read {path}: {error}; {todo}") from error
