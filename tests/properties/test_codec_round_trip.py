"""Every event, whatever its values, comes out of the log as it went in."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import EVENT_TYPES, Event
from streams.codec import Codec
from streams.envelope import NewEvent, UnreadableEntry

CODEC = Codec.of()

# A log holds UTF-8: a lone surrogate never becomes an event.
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
st.register_type_strategy(str, _text)
st.register_type_strategy(
    datetime,
    st.integers(0, 4_000_000_000_000_000).map(
        lambda micros: datetime(1980, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    ),
)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))


def _values(kind: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    fields = {field.name: _of(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


def _of(annotation: object) -> st.SearchStrategy[object]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _values(annotation)
    arguments: tuple[object, ...] = getattr(annotation, "__args__", ())
    if getattr(annotation, "__origin__", None) is tuple:
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if arguments and type(None) in arguments:
        return st.one_of(*(_of(argument) for argument in arguments))
    return st.from_type(annotation)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.TAG)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_events_come_back_as_they_were(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(_values(kind))
    assert isinstance(event, Event)
    ids = [data.draw(_text) for _ in range(4)]
    new = NewEvent(ids[0], event, ids[1], ids[2], ids[3])
    flat = [item if isinstance(item, bytes) else item.encode() for item in CODEC.encode(new)]
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    envelope = CODEC.decode(kind.STREAM, 1, b"1700000000000-0", fields)
    assert envelope.event == event
    assert type(envelope.event) is kind
    assert [
        envelope.id,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.traceparent,
    ] == ids
    assert envelope.occurred_at == (event.occurred_at or envelope.recorded_at)


@given(
    st.dictionaries(
        st.sampled_from([b"id", b"type", b"at", b"cor", b"cau", b"tp", b"data"]),
        st.binary(max_size=30),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_stop_a_reader(fields: dict[bytes, bytes]) -> None:
    envelope = CODEC.decode_or_mark("files", 0, b"1-0", fields)
    assert isinstance(envelope.event, UnreadableEntry)
    assert envelope.id
