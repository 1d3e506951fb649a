"""Payloads as earlier versions wrote them: each is read, and nothing that it says is lost.

tests/payloads/ holds one payload a line: of every event type, with all its fields and with the
necessary ones alone, as each version of the types wrote it. Lines are added and never changed: a
log keeps what was written for as long as there is an archive.
"""

import json
from functools import cache
from typing import Any

import msgspec
import pytest

from domain.events import EVENT_TYPES
from domain.upcasters import UPCASTERS
from runtime.settings import PROJECT_ROOT
from streams.codec import Codec

PAYLOADS = PROJECT_ROOT / "tests" / "payloads"
CODEC = Codec.of()


class Stored(msgspec.Struct, frozen=True):
    """One line."""

    type: str
    stream: str
    data: str


@cache
def stored() -> tuple[Stored, ...]:
    lines = [line for file in PAYLOADS.glob("*.jsonl") for line in file.read_bytes().splitlines()]
    return tuple(msgspec.json.decode(line, type=Stored) for line in lines)


def is_kept(before: Any, now: Any) -> bool:
    """Say whether everything that was said before is said now; fields may have come since."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(name in now and is_kept(value, now[name]) for name, value in before.items())
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(is_kept, before, now))
    return bool(before == now)


def whole(value: Any) -> Any:
    """Return a decoded event as JSON would have it, fields at their defaults included."""
    if isinstance(value, msgspec.Struct) and not value.__struct_config__.array_like:
        return {name: whole(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize("tag", sorted({line.type.partition("/")[0] for line in stored()}))
def test_what_was_written_is_read_and_nothing_of_it_is_lost(tag: str) -> None:
    assert tag in EVENT_TYPES
    for line in stored():
        name, _, version = line.type.partition("/")
        if name != tag:
            continue
        fields = {b"id": b"e1", b"type": line.type.encode(), b"cor": b"c", b"cau": b""}
        event = CODEC.decode(line.stream, 0, b"1-0", {**fields, b"data": line.data.encode()}).event
        assert type(event) is EVENT_TYPES[tag]
        if (tag, int(version)) not in UPCASTERS:
            assert is_kept(json.loads(line.data), whole(event)), line.data
