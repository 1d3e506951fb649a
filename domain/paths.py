r"""File names as text that any program can carry, and back to the very same bytes.

A file name on Linux is any bytes. Python carries those that are not UTF-8 as lone surrogates,
which neither JSON nor PostgreSQL takes, and control characters forge lines in logs. `escape_path`
writes both as `\xNN` (a byte) or `\uNNNN` (a character) and a backslash as `\\`.
"""

import re
import unicodedata
from typing import Final

from domain.errors import PermanentError

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
VIDEO_SUFFIXES: Final = frozenset({".mp4"})

_TEMPORARY_SUFFIXES: Final = frozenset(
    {
        ".crdownload",
        ".download",
        ".filepart",
        ".incomplete",
        ".part",
        ".partial",
        ".swp",
        ".temp",
        ".tmp",
        ".upload",
        ".uploading",
    }
)
_HOUSEKEEPING: Final = frozenset(
    {"#recycle", "$recycle.bin", "@eadir", "desktop.ini", "lost+found", "thumbs.db"}
)
_ESCAPE: Final = re.compile(r"\\(?:\\|x([89a-f][0-9a-f])|u([0-9a-f]{4}))")


def escape_path(path: str) -> str:
    """Return `path` without surrogates and control characters; different paths stay different."""
    return "".join(map(_escaped, path))


def unescape_path(text: str) -> str:
    """Return the path that `escape_path` made `text` from; raises PermanentError if none did."""
    path = _ESCAPE.sub(_unescaped, text)
    if escape_path(path) != text:
        raise PermanentError(f"{text!r} is not a path as this software writes it")
    return path


def is_passing(name: str) -> bool:
    """Say whether a file or folder of this name is no picture to take in.

    Uploads under a temporary name (dot files, `.part`, `.tmp`, `~` …) count once they are renamed;
    the housekeeping folders of network drives never do.
    """
    lower = name.lower()
    return (
        lower.startswith(".")
        or lower.endswith("~")
        or suffix(lower) in _TEMPORARY_SUFFIXES
        or lower in _HOUSEKEEPING
    )


def suffix(name: str) -> str:
    """Return the lower-case ending of a file name with its dot, empty if it has none."""
    _, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot else ""


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    # Control, format (bidirectional overrides), surrogate; line and paragraph separators.
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and code <= 0xFFFF:
        return f"\\u{code:04x}"
    return character


def _unescaped(match: re.Match[str]) -> str:
    byte, character = match.groups()
    if byte:
        return chr(0xDC00 + int(byte, 16))
    return chr(int(character, 16)) if character else "\\"
