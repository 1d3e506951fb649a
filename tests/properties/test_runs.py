"""Runs of entries and rows: decoded and written at once, they are what they are one by one."""

import csv as reference
import io
from random import Random

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.made_up import history

from domain.events import ObjectsDetected
from projections.bulk import csv
from streams.codec import Codec, Fields
from streams.envelope import NewEvent

CODEC = Codec.of()


def _stored(new: NewEvent) -> dict[bytes, bytes]:
    flat = [item if isinstance(item, bytes) else item.encode() for item in CODEC.encode(new)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entries() -> list[Fields]:
    """Return sound entries of every kind, with and without what an entry may lack."""
    events = enumerate(history(Random(7)))
    news = [
        NewEvent(f"e{n}", event, "c", "", "00-1-2-01" * (n % 2), n % 3 * 1_000_000)
        for n, event in events
    ]
    return [_stored(new) for new in news]


SOUND = _entries()
SEEN = next(f for f in SOUND if f[b"type"].startswith(ObjectsDetected.TAG.encode()))
OBJECT = SEEN[b"data"]
DAMAGED: list[Fields] = [
    {},
    {b"type": b"objects.detected/99"},
    {**SEEN, b"type": b"objects.detected/0"},
    {**SEEN, b"type": b"nobody.knows/1"},
    {**SEEN, b"id": b"\xff"},
    {**SEEN, b"at": b"2026-03-01T12:00:00"},
    {**SEEN, b"cat": b"soon"},
    *({**SEEN, b"data": data} for data in (b"", OBJECT[:-1], OBJECT + b"," + OBJECT, b"null")),
    {key: value for key, value in SEEN.items() if key != b"cor"},
]
NUMBER = st.integers(0, 2**64 - 1)
ID = st.builds(lambda ms, seq: b"%d-%d" % (ms, seq), st.integers(0, 2**45), NUMBER)
ENTRY = st.tuples(ID, st.one_of(st.sampled_from(SOUND), st.sampled_from(DAMAGED)))


@given(st.lists(ENTRY, max_size=12))
@example([(b"%d-%d" % (5 + n, n), fields) for n, fields in enumerate(SOUND)])
@example([(b"7", SEEN), (b"8-1", SEEN)])
@settings(max_examples=150, deadline=None)
def test_a_run_decodes_as_its_entries_do(entries: list[tuple[bytes, Fields]]) -> None:
    one_by_one = [CODEC.decode_or_mark("detections", 2, *entry) for entry in entries]
    assert CODEC.decode_run("detections", 2, entries) == one_by_one


class Row(msgspec.Struct, frozen=True):
    """Values of every kind that is copied."""

    text: str
    number: int
    score: float
    fallback: bool
    note: str | None
    names: tuple[str, ...]
    more: tuple[str, ...] | None


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
TEXTS = TEXT | st.sampled_from(['a"b', "\\", "\\n", "],[", "null", "\u2028", "1\n,2", "\x7f\x1b"])
ROW = st.builds(
    Row,
    text=TEXTS,
    number=st.integers(-(2**63), 2**63 - 1),
    score=st.floats(allow_nan=False, allow_infinity=False),
    fallback=st.booleans(),
    note=st.none() | TEXTS,
    names=st.lists(TEXTS, max_size=3).map(tuple),
    more=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
)


def _array(texts: tuple[str, ...] | None) -> str:
    if texts is None:
        return "null"
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


@given(st.lists(ROW, min_size=1, max_size=6), st.integers(0, 2**62))
@settings(max_examples=200, deadline=None)
def test_rows_are_lines_that_another_reader_reads(rows: list[Row], order: int) -> None:
    lines = io.StringIO(csv(rows, order).decode(), newline="")
    found = list(reference.reader(lines, doublequote=False, escapechar="\\", strict=True))
    assert [line[:3] + line[4:] for line in found] == [
        [
            "",
            row.text,
            str(row.number),
            "true" if row.fallback else "false",
            "null" if row.note is None else row.note,
            _array(row.names),
            _array(row.more),
            str(order),
        ]
        for row in rows
    ]
    assert [float(line[3]) for line in found] == [row.score for row in rows]
