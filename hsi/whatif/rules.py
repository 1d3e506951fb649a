"""Weights of the rules from a TOML file: read, checked by name, type and range, and explained."""

import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import inspect

from domain.errors import HsiError
from domain.rule_weights import RULES, Rules, RuleWeights, changed_weights

_MOST_BYTES: Final = 64 * 1024


class Weight(NamedTuple):
    """One weight as the documentation shows it."""

    name: str
    default: str
    """As TOML."""
    range: str
    meaning: str


def read_rules(path: Path) -> Rules:
    """Return the rules with the file's weights; raises HsiError for what cannot be used."""
    known = {field.name: field for field in msgspec.structs.fields(RuleWeights)}
    ranges = {weight.name: weight.range for weight in weights()}
    chosen: dict[str, object] = {}
    for name, value in _read(path).items():
        if name not in known:
            raise HsiError(
                f"--rules {path}: there is no weight {name!r}; there are {', '.join(known)}"
            )
        default = getattr(RULES.weights, name)
        try:
            chosen[name] = msgspec.convert(_whole(default, value), known[name].type)
        except (msgspec.ValidationError, ValueError) as error:
            raise HsiError(
                f"--rules {path}: {name} = {shown(value)}: {error}; {name} takes {ranges[name]}; "
                f"the weights are {', '.join(known)}"
            ) from error
    try:
        return Rules.of(RuleWeights(**chosen))  # type: ignore[arg-type]  # Converted above.
    except ValueError as error:
        raise HsiError(f"--rules {path}: {error}") from error


def changed(rules: Rules) -> Iterator[tuple[str, str, str]]:
    """Give name, default and value of every weight that differs."""
    for name, value in changed_weights(rules.weights).items():
        yield name, shown(getattr(RULES.weights, name)), shown(value)


def weights() -> list[Weight]:
    """Return every weight, in the order of the rules."""
    told = inspect.type_info(RuleWeights)
    if not isinstance(told, inspect.StructType):
        raise TypeError("the weights are a struct")
    return [
        Weight(
            field.name,
            shown(getattr(RULES.weights, field.name)),
            _range(field.type),
            _meaning(field.type),
        )
        for field in told.fields
    ]


def example() -> str:
    """Return a file with every weight at its default, which changes nothing."""
    lines = [f"# Weights of {RULES.version}; what is left out keeps its default."]
    lines += [f"# {w.meaning} ({w.range})\n{w.name} = {w.default}" for w in weights()]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    """Return a value as TOML writes it; parts of a table in one line."""
    plain = msgspec.to_builtins(value)
    if isinstance(plain, dict):
        return "{ " + ", ".join(f"{key} = {shown(one)}" for key, one in plain.items()) + " }"
    return json.dumps(plain, default=str)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise HsiError(f"--rules {path}: more than {_MOST_BYTES} bytes are no list of weights")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise HsiError(f"--rules {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HsiError(
            f"--rules {path} is no TOML file: {error}; `hsi replay --rules-example` prints one"
        ) from error


def _whole(default: object, value: object) -> object:
    """Return a table with the parts that it leaves out; ValueError for what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number")
    if isinstance(default, msgspec.Struct) and isinstance(value, dict):
        return {**msgspec.to_builtins(default), **value}
    return value


def _range(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _range(kind.type)
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            return f"a number from {kind.ge} to {kind.le}"
        case inspect.TupleType():
            return f"{len(kind.item_types)} numbers, each {_range(kind.item_types[0])}"
        case inspect.StructType():
            names = ", ".join(field.name for field in kind.fields)
            return f"{names}, each {_range(kind.fields[0].type)}"
    raise TypeError(f"a weight of an unknown kind: {kind}")


def _meaning(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata) and kind.extra_json_schema:
        return str(kind.extra_json_schema.get("description", "")) or _meaning(kind.type)
    return ""
