"""The codec: fields and back, old versions raised, what does not decode said plainly."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from support.logs import detected, received

from domain.events import EVENT_TYPES, CameraRegistered, Event
from streams.codec import Codec, UndecodableError
from streams.envelope import NewEvent, Position, UnreadableEntry


class DoorOpened(Event, frozen=True, kw_only=True):
    """An event that has been at version 3 for a while."""

    TAG: ClassVar[str] = "door.opened"
    VERSION: ClassVar[int] = 3
    STREAM: ClassVar[str] = "files"

    door: str
    wide: bool


def _named(payload: dict[str, Any]) -> dict[str, Any]:
    return {"camera_id": payload["camera_id"], "door": f"door {payload['number']}"}


def _wide(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "wide": False}


DOORS = Codec.of(
    {DoorOpened.TAG: DoorOpened}, {(DoorOpened.TAG, 1): _named, (DoorOpened.TAG, 2): _wide}
)
CODEC = Codec.of()
GOOD = {
    b"id": b"e1",
    b"type": b"camera.registered/1",
    b"cor": b"c",
    b"cau": b"",
    b"data": b'{"camera_id":"porch","name":"Porch","folder":"porch","source":"api"}',
}


def fields_of(codec: Codec, new: NewEvent) -> dict[bytes, bytes]:
    flat = [item if isinstance(item, bytes) else item.encode() for item in codec.encode(new)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_an_entry_reads_like_text() -> None:
    new = NewEvent(
        "e1", received("a"), correlation_id="pic_1", causation_id="e0", traceparent="00-1"
    )
    fields = fields_of(CODEC, new)
    assert list(fields) == [b"id", b"type", b"at", b"cor", b"cau", b"tp", b"data"]
    assert fields[b"type"] == b"image.received/1"
    assert fields[b"at"] == b"2026-03-01T12:00:00+00:00"
    envelope = CODEC.decode("files", 2, b"1700000000000-5", fields)
    assert envelope.event == new.event
    assert (envelope.id, envelope.stream, envelope.partition) == ("e1", "files", 2)
    assert envelope.position == Position(1_700_000_000_000, 5)
    assert (envelope.correlation_id, envelope.causation_id) == ("pic_1", "e0")
    assert envelope.traceparent == "00-1"
    assert envelope.tag == "image.received"


def test_an_event_without_a_time_of_its_own_occurred_when_it_was_recorded() -> None:
    envelope = CODEC.decode("cameras", 0, b"1700000000000-0", GOOD)
    assert envelope.occurred_at == envelope.recorded_at
    assert envelope.recorded_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert envelope.event == CameraRegistered(
        camera_id="porch", name="Porch", folder="porch", source="api"
    )


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, b'{"camera_id":"porch","number":7}'),
        (2, b'{"camera_id":"porch","door":"door 7"}'),
        (3, b'{"camera_id":"porch","door":"door 7","wide":false}'),
    ],
)
def test_old_versions_are_raised_step_by_step(version: int, data: bytes) -> None:
    fields = {**GOOD, b"type": f"door.opened/{version}".encode(), b"data": data}
    event = DOORS.decode("files", 0, b"1-0", fields).event
    assert event == DoorOpened(camera_id="porch", door="door 7", wide=False)


@dataclass(frozen=True)
class Bad:
    """Fields that do not decode, and a part of the message that says so."""

    fields: dict[bytes, bytes]
    message: str


BAD = [
    Bad(
        {**GOOD, b"type": b"camera.registered/2"},
        "version 2 is newer than this software knows (1)",
    ),
    Bad({**GOOD, b"type": b"camera.registered/" + b"9" * 5000}, "Exceeds the limit"),
    Bad({**GOOD, b"type": b"camera.registered/0"}, "no upcaster raises camera.registered"),
    Bad({**GOOD, b"type": b"camera.exploded/1"}, "unknown event type 'camera.exploded'"),
    Bad({**GOOD, b"type": b"camera.registered/one"}, "invalid literal"),
    Bad({**GOOD, b"type": b"\xff"}, "codec can't decode"),
    Bad({**GOOD, b"type": b""}, "unknown event type"),
    Bad({**GOOD, b"data": b"{"}, "truncated"),
    Bad({**GOOD, b"data": b'{"x":' + b"[" * 9000 + b"]" * 9000 + b"}"}, "recursion"),
    Bad({**GOOD, b"data": b"[]"}, "Expected `object`"),
    Bad({**GOOD, b"data": b'{"camera_id":"porch"}'}, "missing required field `name`"),
    Bad({**GOOD, b"at": b"yesterday"}, "Invalid isoformat"),
    Bad({**GOOD, b"at": b"2026-03-01T12:00:00"}, "has no time zone"),
    Bad({**GOOD, b"id": b"\xff"}, "codec can't decode"),
    *(
        Bad({k: v for k, v in GOOD.items() if k != name}, f"field {name!r} is missing")
        for name in GOOD
    ),
    Bad({}, "is missing"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.message)
def test_what_does_not_decode_says_why_and_can_be_marked(bad: Bad) -> None:
    with pytest.raises(UndecodableError) as raised:
        CODEC.decode("cameras", 0, b"5-1", bad.fields)
    assert str(raised.value).startswith("entry 5-1 of cameras: ")
    assert bad.message in str(raised.value)
    envelope = CODEC.decode_or_mark("cameras", 0, b"5-1", bad.fields)
    assert isinstance(envelope.event, UnreadableEntry)
    assert envelope.event.error == str(raised.value)
    assert envelope.id
    assert envelope.event.stored_payload == bad.fields.get(b"data", b"").decode()


@pytest.mark.parametrize("data", [b"[]", b'{"camera_id":"porch"}', b"7"])
def test_an_upcaster_that_meets_another_shape_does_not_stop_the_reader(data: bytes) -> None:
    fields = {**GOOD, b"type": b"door.opened/1", b"data": data}
    envelope = DOORS.decode_or_mark("files", 0, b"5-1", fields)
    assert isinstance(envelope.event, UnreadableEntry)
    assert (envelope.event.stored_tag, envelope.event.stored_version) == ("door.opened", 1)


def test_a_missing_step_is_named() -> None:
    codec = Codec.of({DoorOpened.TAG: DoorOpened}, {})
    fields = {**GOOD, b"type": b"door.opened/1", b"data": b"{}"}
    with pytest.raises(UndecodableError, match=r"no upcaster raises door\.opened from version 1"):
        codec.decode("files", 0, b"5-1", fields)


def test_every_event_has_a_tag_of_its_own_and_a_stream() -> None:
    assert all(tag == kind.TAG for tag, kind in EVENT_TYPES.items())
    assert all(kind.STREAM for kind in EVENT_TYPES.values())


@pytest.mark.parametrize("text", ["1700000000000-3", b"1700000000000-3"])
def test_positions_are_read_and_written(text: str | bytes) -> None:
    position = Position.parse(text)
    assert str(position) == "1700000000000-3"
    assert position.next() == Position(1_700_000_000_000, 4)


def test_positions_are_ordered_as_numbers() -> None:
    assert Position.parse("5-9") < Position.parse("5-10") < Position.parse("10-0")
    assert Position.parse("7") == Position(7, 0)


def test_numbers_that_json_lacks_do_not_come_back() -> None:
    new = NewEvent("e1", detected("a", 0.0), correlation_id="c")
    fields = fields_of(CODEC, new)
    fields[b"data"] = fields[b"data"].replace(b"0.8", b"null")
    assert isinstance(CODEC.decode_or_mark("detections", 0, b"1-0", fields).event, UnreadableEntry)
