"""Types of settings as they stand in a file or the environment: text that becomes a value."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


def _json_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a JSON list of text, not broken JSON ({error})") from error


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


TextList = Annotated[tuple[str, ...], BeforeValidator(_json_list)]
Unit = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[int, Field(ge=0, le=100)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]
NemotronApi = Annotated[Literal["chat", "completion"], BeforeValidator(_lower)]
EmbeddedModel = Annotated[
    Literal["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m"], BeforeValidator(_lower)
]


def starts(section: str) -> dict[str, Any]:
    """Mark a field as the first of a section of `.env.example`."""
    return {"section": section}


def home(variable: str, below_home: str, for_root: str) -> Path:
    """Return our folder: for root a system one, else below what `variable` names or the home."""
    if os.geteuid() == 0:
        return Path(for_root) / "hsi"
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / below_home) / "hsi"
