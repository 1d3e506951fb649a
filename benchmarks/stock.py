"""A PostgreSQL with a stock of events, loaded by COPY and kept in the temporary folder.

Every event has two pictures out of two files and five detections. What an event is (camera, level,
labels, whether it was reviewed) follows from its number by multiplicative hashing, so that no two
filters go together. A stock is kept for the next run, which applies the migrations that came
since; another loader or a migration that is no longer the same makes it anew.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from domain.events import Baseline, BatchFacts, ObjectFact, Signal
from projections.migrate import MIGRATIONS, migrate
from runtime.embedded import EmbeddedServers

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS_APART = 7
CAMERAS = 8
PICTURES = (("a", 2), ("b", 3))
"""Of each event: how a picture's name ends, and how many detections are in it."""

LABELS = ("person", "car", "dog", "cat", "bicycle", "truck", "bird", "bear")
LEVELS = (
    ("low", 60, 0, 29),
    ("medium", 25, 30, 59),
    ("high", 12, 60, 84),
    ("critical", 3, 85, 100),
)
"""Level, how many of a hundred events, lowest and highest score."""

RUN = 2000
"""Events whose rows are sent at once."""

Rows = Callable[[int], Iterator[str]]

SIGNALS = [
    Signal(name="time_of_day", value="night", points=15, why="it is night at the camera"),
    Signal(name="dwell", value="40 s", points=10, why="somebody stays for a while"),
    Signal(name="entry_point", value="yes", points=10, why="the camera looks at an entry"),
]
FACTS = BatchFacts(
    objects=(ObjectFact(label="person", most_at_once=2, pictures=2, best_score=0.93),),
    picture_count=2,
    dwell_seconds=40.0,
    local_time="2026-01-01 02:10 Thursday",
    part_of_day="night",
    baseline=Baseline(days_observed=9, same_hour=3),
)
_LABELS = """
INSERT INTO event_labels (
    id, label, camera_id, started_at, risk_level, reviewed, is_fast_path, risk_score)
SELECT id, unnest(labels), camera_id, started_at, risk_level, reviewed, is_fast_path, risk_score
FROM events
"""
_signals = msgspec.json.encode(SIGNALS).decode()
_facts = msgspec.json.encode(FACTS).decode()
_REASONING = "One person walks up to the door, waits there and looks at the lock. " * 3


@contextlib.contextmanager
def stocked(events: int) -> Iterator[EmbeddedServers]:
    """Start servers over a stock of so many events, which is made if there is none yet."""
    place = Path(tempfile.gettempdir()) / f"hsi-stock-{events}"
    whole = place / "whole"
    made_of = _made_of()
    if not (whole.exists() and set(whole.read_text().splitlines()) <= set(made_of)):
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o755, exist_ok=True)
    running = EmbeddedServers.start(place / "state")
    try:
        assert running.database_url is not None
        migrate(running.database_url)
        if not whole.exists():
            fill(running.database_url, events)
        whole.write_text("\n".join(made_of))
        yield running
    finally:
        running.stop()


def _made_of() -> list[str]:
    """Return the loader and the migrations, each with what it says."""
    paths = [Path(__file__), *(p for p in MIGRATIONS.glob("*.sql") if ".rollback" not in p.name)]
    return [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]


def fill(database_url: str, events: int) -> None:
    """Copy the rows of so many events into the empty read models; then make their indexes."""
    tables: dict[str, tuple[str, Rows]] = {
        "cameras": ("id, name, folder, source, confirmed, created_at", _camera_rows),
        "events": (_EVENT_COLUMNS, _event_rows),
        "pictures": (_PICTURE_COLUMNS, _picture_rows),
        "files": (_FILE_COLUMNS, _file_rows),
        "detections": (_DETECTION_COLUMNS, _detection_rows),
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem TO '512MB'")
        connection.execute("SET synchronous_commit TO off")
        for table, (columns, rows) in tables.items():
            again = _take_indexes(connection, table)
            statement = SQL("COPY {} ({}) FROM STDIN").format(Identifier(table), SQL(columns))
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for start in range(0, events, RUN):
                    numbers = range(start, min(start + RUN, events))
                    copy.write("".join(line for number in numbers for line in rows(number)))
            _finish(connection, table, again)
        again = _take_indexes(connection, "event_labels")
        connection.execute(_LABELS)
        _finish(connection, "event_labels", again)


def _finish(connection: psycopg.Connection, table: str, again: list[str]) -> None:
    for make in again:
        connection.execute(make)
    connection.execute(SQL("VACUUM (ANALYZE) {}").format(Identifier(table)))


def _take_indexes(connection: psycopg.Connection, table: str) -> list[str]:
    """Drop a table's keys and indexes; return the statements that make them again."""
    keys = connection.execute(
        """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid = %s::regclass AND contype IN ('p', 'u')""",
        (table,),
    ).fetchall()
    again = [f"ALTER TABLE {table} ADD CONSTRAINT {name} {what}" for name, what in keys]
    for name, _ in keys:
        drop = SQL("ALTER TABLE {} DROP CONSTRAINT {}")
        connection.execute(drop.format(Identifier(table), Identifier(name)))
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", (table,)
    ).fetchall()
    for name, _ in indexes:
        connection.execute(SQL("DROP INDEX {}").format(Identifier(name)))
    return again + [definition for _, definition in indexes]


# --- rows -----------------------------------------------------------------------------------


def _mixed(number: int) -> int:
    """Return 64 bits that look random; each fact about an event is taken from bits of its own."""
    mixed = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    return ((mixed ^ mixed >> 31) * 0xD6E8FEB86659FD93 ^ mixed >> 27) & 0xFFFFFFFFFFFFFFFF


def event_id(number: int) -> str:
    """Return the id of an event."""
    return f"evt_{_mixed(number):016x}{number:08x}"


def moment_of(number: int) -> datetime:
    """Return when an event began."""
    return BEGIN + timedelta(seconds=number * SECONDS_APART)


def facts_of(number: int) -> dict[str, str]:
    """Return what an event can be found by, in the names that the API has for it."""
    bits = _mixed(number)
    level, score = _level_of(bits)
    return {
        "camera_id": _camera_of(bits),
        "risk_level": level,
        "min_score": str(score),
        "object_type": _labels_of(bits)[-1],
        "reviewed": str(_is_reviewed(bits)).lower(),
        "is_fast_path": str(_is_fast(bits)).lower(),
    }


def _is_fast(bits: int) -> bool:
    return (bits >> 45 & 0xFF) % 20 == 0


def _is_reviewed(bits: int) -> bool:
    return (bits >> 53 & 0xFF) % 10 < 3


def _camera_of(bits: int) -> str:
    return f"camera_{bits >> 3 & 7}"


def _level_of(bits: int) -> tuple[str, int]:
    percent, within = (bits >> 8 & 0xFFFF) % 100, bits >> 24 & 0xFF
    for level, share, low, high in LEVELS:
        if percent < share:
            return level, low + within % (high - low + 1)
        percent -= share
    raise AssertionError("the shares come to a hundred")


def _labels_of(bits: int) -> list[str]:
    """Return what an event shows: a person or a car, and one thing that is rarer the later."""
    rank = (bits >> 32 & 0xFFF).bit_length()  # 12 for half of all, 11 for a quarter, …
    also = LABELS[min(len(LABELS) - 1, 13 - rank)]
    return sorted({"person" if bits >> 44 & 1 else "car", also})


_EVENT_COLUMNS = """id, camera_id, batch_id, started_at, ended_at, stage, is_fast_path,
    close_reason, picture_ids, labels, rule_score, rule_level, floor, rule_summary,
    rule_reasoning, signals, facts, rules_version, assessed_at, reviewed"""


def _event_rows(number: int) -> Iterator[str]:
    bits = _mixed(number)
    level, score = _level_of(bits)
    at = moment_of(number)
    fast, reviewed = ("t" if each else "f" for each in (_is_fast(bits), _is_reviewed(bits)))
    yield (
        f"evt_{bits:016x}{number:08x}\t{_camera_of(bits)}\tbatch_{number:016x}\t{at}\t{at}\t"
        f"final\t{fast}\tidle\t{{pic_{bits:016x}{number:08x}a,pic_{bits:016x}{number:08x}b}}\t"
        f"{{{','.join(_labels_of(bits))}}}\t{score}\t{level}\t10\t"
        f"Somebody at the door, number {number}\t{_REASONING}\t{_signals}\t{_facts}\t1\t{at}\t"
        f"{reviewed}\n"
    )


_PICTURE_COLUMNS = """picture_id, camera_id, file_id, uri, captured_at, frame, width, height,
    received_at, detected_at, detection_count, model, model_version, batch_id, event_id,
    assessed_at"""


def _picture_rows(number: int) -> Iterator[str]:
    bits, at = _mixed(number), moment_of(number)
    camera = _camera_of(bits)
    for which, count in PICTURES:
        yield (
            f"pic_{bits:016x}{number:08x}{which}\t{camera}\tfile_{bits:016x}{number:08x}{which}\t"
            f"camera:{camera}/{number}{which}.jpg\t{at}\t0\t1920\t1080\t{at}\t{at}\t{count}\t"
            f"ssdlite\t1\tbatch_{number:016x}\tevt_{bits:016x}{number:08x}\t{at}\n"
        )


_FILE_COLUMNS = """file_id, camera_id, path, sha256, size_bytes, media, captured_at,
    captured_from, received_at, width, height, frames, picture_ids"""


def _file_rows(number: int) -> Iterator[str]:
    bits, at = _mixed(number), moment_of(number)
    camera = _camera_of(bits)
    for which, _ in PICTURES:
        yield (
            f"file_{bits:016x}{number:08x}{which}\t{camera}\t{camera}/{number}{which}.jpg\t"
            f"{bits:063x}{which}\t300000\timage\t{at}\texif\t{at}\t1920\t1080\t1\t"
            f"{{pic_{bits:016x}{number:08x}{which}}}\n"
        )


_DETECTION_COLUMNS = """id, picture_id, file_id, camera_id, captured_at, label, confidence, x, y,
    width, height, model, model_version, fallback, recorded_at"""


def _detection_rows(number: int) -> Iterator[str]:
    bits, at = _mixed(number), moment_of(number)
    camera, labels = _camera_of(bits), _labels_of(bits)
    for which, count in PICTURES:
        picture = f"pic_{bits:016x}{number:08x}{which}"
        for box in range(count):
            sure = 0.5 + (bits >> box & 0xFF) / 512
            yield (
                f"{picture}.{box}\t{picture}\tfile_{bits:016x}{number:08x}{which}\t{camera}\t"
                f"{at}\t{labels[box % len(labels)]}\t{sure}\t{10 * box}\t20\t100\t220\tssdlite\t"
                f"1\tt\t{at}\n"
            )


def _camera_rows(number: int) -> Iterator[str]:
    if number < CAMERAS:
        yield f"camera_{number}\tCamera {number}\tcamera_{number}\tapi\tt\t{BEGIN}\n"
