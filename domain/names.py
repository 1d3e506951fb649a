"""Hygiene for text that others wrote: camera names, labels and what a language model answered.

Small models obey control tokens and instructions wherever they stand, and llama.cpp's server reads
`<|…|>` inside a user's text as the real thing. So nothing reaches a prompt that is not on the
whitelist below, and nothing a model wrote reaches a person with control characters in it.
"""

import re
import unicodedata
from typing import Final

CAMERA_NAME_LIMIT: Final = 40
"""Characters of a camera's name that a prompt or a summary may carry."""
LABEL_LIMIT: Final = 30
"""Characters of an object's label that a prompt or a summary may carry."""

_CONTROL_TOKENS: Final = re.compile(
    r"<\s*\|.{0,64}?\|\s*>"  # <|im_start|>, <|eot_id|> and their like
    r"|<\s*/?\s*(?:extra_id_\d+|s|unk|pad|bos|eos|think|tool_call|(?:start|end)_of_turn)\s*>"
    r"|\[\s*/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\s*\]"
    r"|<<\s*/?\s*SYS\s*>>",
    re.IGNORECASE | re.DOTALL,
)
_NAME_PUNCTUATION: Final = frozenset("-_.,'&/#()+")
_LABEL_PUNCTUATION: Final = frozenset("-")
_PLURALS: Final = {
    "person": "people",
    "knife": "knives",
    "mouse": "mice",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
}


def strip_control_tokens(text: str) -> str:
    """Remove chat-control tokens, also those that only appear once others are gone."""
    while True:
        shorter = _CONTROL_TOKENS.sub("", text)
        if shorter == text:
            return text
        text = shorter


def clean_name(name: str) -> str:
    """Return a camera's name as it may stand in a prompt or a summary; never empty."""
    return _whitelisted(name, _NAME_PUNCTUATION, CAMERA_NAME_LIMIT) or "unnamed camera"


def clean_label(label: str) -> str:
    """Return an object's label as it may stand in a prompt or a summary; never empty."""
    return _whitelisted(label, _LABEL_PUNCTUATION, LABEL_LIMIT).lower() or "object"


def clean_text(text: str) -> str:
    """Return a model's prose on one line, without control tokens and invisible characters."""
    shown = "".join(_visible(character) for character in strip_control_tokens(text))
    return " ".join(strip_control_tokens(shown).split())


def counted(label: str, number: int) -> str:
    """Return `1 person`, `2 people`, `3 buses` …"""
    label = clean_label(label)
    return f"{number} {label if number == 1 else _plural(label)}"


def _plural(label: str) -> str:
    if label in _PLURALS:
        return _PLURALS[label]
    return label + ("es" if label.endswith(("s", "x", "ch", "sh")) else "s")


def _visible(character: str) -> str:
    # Category C: control, format (bidirectional overrides, zero width), surrogate, private, none.
    return " " if unicodedata.category(character).startswith("C") else character


def _whitelisted(text: str, punctuation: frozenset[str], limit: int) -> str:
    plain = strip_control_tokens(unicodedata.normalize("NFKC", text))
    kept = (c if _allowed(c, punctuation) else " " for c in plain)
    return " ".join("".join(kept).split())[:limit].strip()


def _allowed(character: str, punctuation: frozenset[str]) -> bool:
    # Letters, marks that belong to letters, and digits of every script.
    return character in punctuation or unicodedata.category(character)[0] in "LMN"
