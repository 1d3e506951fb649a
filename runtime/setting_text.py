"""A setting's value as text: for people, for JSON, for `.env`; secrets are masked."""

import json
from typing import Any

from pydantic import SecretStr

from runtime.masking import MASK, mask_urls


def plain(value: object) -> Any:  # noqa: ANN401 - a JSON value
    """Return a setting's value as a JSON value."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return [mask_urls(item) for item in value]
    if isinstance(value, bool | int | float | None):
        return value
    return mask_urls(str(value))


def shown(value: object) -> str:
    """Return a setting's value as one writes it in `.env`; secrets are masked."""
    text = plain(value)
    if isinstance(text, str):
        return text
    return "" if text is None else json.dumps(text, ensure_ascii=False)
