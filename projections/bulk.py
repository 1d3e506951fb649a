"""COPY of rows into tables that nobody reads yet, and what makes whole tables of them."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, get_args, get_origin, get_type_hints

import msgspec
from psycopg.sql import SQL, Identifier

from projections.database import Connection, one_row
from projections.read_model import Run, Write, Writing, rows_text
from streams.envelope import Envelope

PIECE_ROWS: Final = 500
"""Rows made into text at once, in about a millisecond."""

EDGE: Final = "build_edge"
"""Column of a table being built: empty, it takes what stands before the first comma of a line."""

ORDER: Final = "build_order"
"""Column of a table being built: the order in which its rows came."""

MERGE_RUN: Final = 5000
"""Rows that came in several runs, put together at once."""

COPY: Final = SQL("COPY {} ({}) FROM STDIN (FORMAT csv, ESCAPE '\\', NULL 'null')")

DEFER: Final = "INSERT INTO deferred_writes (statement, rows) VALUES (%s, %s)"

DEFERRED: Final = "SELECT statement, rows FROM deferred_writes WHERE number = %(number)s"

_encoder = msgspec.json.Encoder()
_ESCAPES: Final = re.compile(rb'\\(["\\bfnrt]|u[0-9a-f]{4})')
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class Text:
    """What goes to PostgreSQL for one write, ready to be sent; the rows it was made of may go."""

    statement: str
    table: str | None
    columns: tuple[str, ...]
    pieces: Sequence[bytes]
    """Lines for COPY into `table`, else a JSON array for `statement`."""

    @classmethod
    async def of(cls, write: Write, order: int) -> "Text":
        """Make it; between two pieces PostgreSQL is sent what it waits for."""
        await asyncio.sleep(0)
        pieces: list[bytes] = []
        if write.table is None:
            pieces.append(rows_text(write.rows))
        else:
            for start in range(0, len(write.rows), PIECE_ROWS):
                pieces.append(csv(write.rows[start : start + PIECE_ROWS], order))
                await asyncio.sleep(0)
        return cls(write.statement, write.table, write.rows[0].__struct_fields__, pieces)


class Copied:
    """One window of a read model as a rebuild writes it: rows are copied, or deferred to the end.

    The text can be made before, which needs no connection: while the window before is being
    written.
    """

    def __init__(self, model: Writing, envelopes: Sequence[Envelope], order: int) -> None:
        """Rows get `order`, and when PostgreSQL refuses them each later part one more.

        No window is applied in more than twice as many parts as it has envelopes, so twice the
        number of events that came before is always behind what was used there.
        """
        self.name = model.name
        self.version = model.version
        self.streams = model.streams
        self.tables = model.tables
        self._model = model
        self._envelopes = envelopes
        self._order = order
        self._texts: list[Text] | None = None

    async def make(self) -> None:
        """Make the text of the whole window."""
        self._texts = await self._made(self._envelopes)

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Write what follows from the window, or from a part of it when it is called again."""
        texts, self._texts = self._texts, None
        for text in texts if texts is not None else await self._made(envelopes):
            if text.table is None:
                values = (text.statement, b"".join(text.pieces).decode())
                await connection.execute(DEFER, values)
            else:
                await _copy(connection, text.table, text)

    async def _made(self, envelopes: Sequence[Envelope]) -> list[Text]:
        order, self._order = self._order, self._order + 1
        writes = self._model.writes(Run(envelopes))
        return [await Text.of(write, order) for write in writes if write.rows]


async def _copy(connection: Connection, table: str, text: Text) -> None:
    columns = SQL(", ").join(map(Identifier, (EDGE, *text.columns, ORDER)))
    async with connection.cursor().copy(COPY.format(Identifier(table), columns)) as copy:
        for piece in text.pieces:
            await copy.write(piece)


def csv(rows: Sequence[msgspec.Struct], order: int) -> bytes:
    r"""Return rows, each behind an empty value and before `order`, as CSV.

    `\` is the escape and `null` stands for NULL. A JSON array is such a line, but for the control
    characters; so the values of all rows are encoded as one array, at the speed of JSON, with the
    end of a line as one value more.
    """
    end = msgspec.Raw(b"%d\n" % order)
    arrays = _arrays(type(rows[0]))
    values: list[object] = []
    for row in rows:
        values += msgspec.structs.astuple(row)
        for from_end in arrays:
            values[from_end] = _array(values[from_end])
        values.append(end)
    lines = b"," + _encoder.encode(values)[1:-1]
    # Escapes of quote and backslash are CSV's too.
    return _ESCAPES.sub(_unescaped, lines) if b"\\" in lines else lines


@lru_cache
def _arrays(kind: type[msgspec.Struct]) -> tuple[int, ...]:
    """Return which fields of a row are text arrays, counted from the last: that one is -1."""
    hints, names = get_type_hints(kind), kind.__struct_fields__
    kinds = [(hints[name], *get_args(hints[name])) for name in names]
    return tuple(
        n - len(names)
        for n, each in enumerate(kinds)
        if any(get_origin(one) is tuple for one in each)
    )


def _array(texts: object) -> str | None:
    """Return texts as an array literal."""
    if not isinstance(texts, tuple):
        return None
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _unescaped(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    if escape.startswith(b"u"):
        code = int(escape[1:], 16)
        return (chr(code) if code else "\ufffd").encode()
    return _CONTROLS.get(escape, found[0])


KEY_COLUMNS: Final = """
SELECT a.attname FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = ('public.' || quote_ident(%(table)s))::regclass AND i.indisprimary
ORDER BY array_position(i.indkey::smallint[], a.attnum)
"""

# Rows whose key came in several runs, out of the table: `nth` telling of its key, in what chunk.
MOVE_REPEATED: Final = SQL(
    """
CREATE TEMPORARY TABLE repeated ON COMMIT DROP AS
WITH again AS (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1),
moved AS (DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM again) RETURNING *),
counted AS (
    SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS nth FROM moved)
SELECT *, (row_number() OVER (PARTITION BY nth ORDER BY {key}) - 1) / {run} AS chunk FROM counted
"""
)

CHUNKS: Final = "SELECT DISTINCT nth, chunk FROM repeated ORDER BY nth, chunk"

CHUNK_ROWS: Final = (
    "SELECT json_agg(r)::text FROM repeated r WHERE nth = %(nth)s AND chunk = %(chunk)s"
)


async def take_out_repeated(connection: Connection, table: str) -> None:
    """Move the rows whose key came more than once into the temporary table `repeated`."""
    found = await connection.execute(KEY_COLUMNS, {"table": table})
    key = SQL(", ").join([Identifier(name) for (name,) in await found.fetchall()])
    await connection.execute("DROP TABLE IF EXISTS repeated")
    statement = MOVE_REPEATED.format(
        key=key, table=Identifier(table), order=Identifier(ORDER), run=SQL(str(MERGE_RUN))
    )
    await connection.execute(statement)


async def put_together(connection: Connection, write: Write) -> None:
    """Put the repeated rows through the read model's own statement, in the order they came."""
    chunks = await (await connection.execute(CHUNKS)).fetchall()
    for nth, chunk in chunks:
        (rows,) = await one_row(connection, CHUNK_ROWS, {"nth": nth, "chunk": chunk})
        await connection.execute(write.statement, {"rows": rows})


async def write_deferred(connection: Connection) -> None:
    """Run the deferred writes in the order they came."""
    found = await connection.execute("SELECT number FROM deferred_writes ORDER BY number")
    for (number,) in await found.fetchall():
        statement, rows = await one_row(connection, DEFERRED, {"number": number})
        await connection.execute(statement, {"rows": rows})
