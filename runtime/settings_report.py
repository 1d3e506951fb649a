"""Says in words what is wrong with settings: name, value, what is allowed, and where it stands."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from domain.errors import HsiError
from runtime.layers import DEFAULT, Found
from runtime.masking import MASK, mask_urls

_KINDS = {
    "boolean": "true or false, or on or off",
    "integer": "a whole number",
    "number": "a number",
    "array": "a JSON list of text",
}


class SettingsError(HsiError):
    """The start is refused: one or more settings cannot be used as they are."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"These settings cannot be used:\n{lines}")


def problems(
    error: ValidationError, model: type[BaseModel], given: Mapping[str, Found]
) -> list[str]:
    """Return one line a setting that failed; `given` is what the layers said."""
    schema = model.model_json_schema()["properties"]
    lines: dict[str, str] = {}
    for item in error.errors():
        field = str(item["loc"][0])
        name = field.upper()
        found = given.get(name, Found(str(item["input"]), DEFAULT))
        shown = MASK if is_secret(model, field) else mask_urls(found.value)
        said = item["type"] == "value_error"
        what = str(item["ctx"]["error"]) if said else f"must be {allowed(schema[field])}"
        lines.setdefault(name, f"{name}={shown} (from {found.source}): {what}")
    return list(lines.values())


def shown_value(value: object) -> str:
    """Return a value as one writes it in `.env`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def is_secret(model: type[BaseModel], field: str) -> bool:
    """Tell whether a field's value must never be shown."""
    return model.model_fields[field].annotation == SecretStr | None


def allowed(schema: Mapping[str, Any]) -> str:
    """Return in words which values a field's JSON schema accepts."""
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    kind = _KINDS.get(schema.get("type", ""), "text")
    if schema.get("format") == "path":
        kind = "a path"
    if "minimum" in schema:
        return f"{kind} from {schema['minimum']:.15g} to {schema['maximum']:.15g}"
    return kind
