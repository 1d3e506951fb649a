"""Types of settings as they stand in a file or the environment: text that becomes a value."""

import json
from typing import Annotated, Literal

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
