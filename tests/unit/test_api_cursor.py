"""The WebSocket cursor: what comes out is what went in; anything else is refused with a reason."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursor import CursorError, decode_cursor, encode_cursor
from streams.envelope import START, Position

KEYS = tuple((stream, p) for stream in ("assessments", "cameras") for p in range(2))
numbers = st.integers(min_value=0, max_value=2**64 - 2)


@given(st.lists(st.builds(Position, numbers, numbers), min_size=4, max_size=4))
def test_round_trip(positions: list[Position]) -> None:
    at = dict(zip(KEYS, positions, strict=True))
    assert decode_cursor(encode_cursor("events", "life", at), "events", "life", KEYS) == at


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(CursorError) as caught:
        decode_cursor(text, "events", "life", KEYS)
    assert caught.value.code == "invalid_cursor"


def _as_text(json: str) -> str:
    return urlsafe_b64encode(json.encode()).decode()


@pytest.mark.parametrize(
    "json",
    [
        '[1,"events","life",["1-0","2-0","3-0"]]',
        '[2,"events","life",["1-0","2-0","3-0","4-0"]]',
        '[1,"events","life",["1-0","2-0","3-0","x"]]',
        '[1,"events","life",["-1-0","2-0","3-0","4-0"]]',
        '[1,"events","life",["99999999999999999999999-0","2-0","3-0","4-0"]]',
        '[1,"events","life",7]',
        "{}",
    ],
)
def test_broken_cursors(json: str) -> None:
    with pytest.raises(CursorError) as caught:
        decode_cursor(_as_text(json), "events", "life", KEYS)
    assert caught.value.code == "invalid_cursor"


def test_a_cursor_of_another_channel_or_life() -> None:
    text = encode_cursor("events", "life", dict.fromkeys(KEYS, START))
    with pytest.raises(CursorError, match="belongs to /ws/events"):
        decode_cursor(text, "system", "life", KEYS)
    with pytest.raises(CursorError) as caught:
        decode_cursor(text, "events", "another life", KEYS)
    assert caught.value.code == "cursor_too_old"
