"""Log records on their way to a table: gathered, written in runs by a thread, never waited for.

While the table cannot be written, records wait in memory; the oldest ones beyond MOST_WAITING go.
How many are missing, and of which time, is a record of its own once the table takes records again:
the rotating file has them all.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from domain.errors import HsiError, PermanentError
from runtime.masking import Masker

MOST_WAITING: Final = 5_000
RUN: Final = 500
GATHER_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0

NOT_SHIPPED: Final = "api.access"
"""A request that went well is in the file only: a busy API would fill the table with them."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it stands in the table."""

    at: datetime
    level: int
    component: str
    host: str
    pid: int
    logger: str
    message: str
    correlation_id: str = ""
    trace_id: str = ""
    exception: str = ""
    extra: str = "{}"
    """Further fields, as a JSON object."""


Write = Callable[[Sequence[LogLine]], None]
"""Writes a run; raises PermanentError for one that never can be, HsiError when not now."""


class ShippingHandler(logging.Handler):
    """Hands records to a thread that writes them."""

    def __init__(self, write: Write, role: str, masker: Masker, least: int) -> None:
        super().__init__(least)
        self._write = write
        self._role = role
        self._masker = masker
        self._host = socket.gethostname()
        self._waiting: deque[LogLine] = deque()
        self._lost = 0
        self._lost_from: datetime | None = None
        self._lost_to: datetime | None = None
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._ship, name="log-shipping", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; what the thread itself causes is left out, or it would never rest."""
        if record.thread == self._thread.ident:
            return
        if record.name == NOT_SHIPPED and record.levelno < logging.WARNING:
            return
        self._waiting.append(self._line(record))
        if len(self._waiting) > MOST_WAITING:
            self._lose(self._waiting.popleft())
        self._some.set()

    def close(self) -> None:
        """Write what is left, but do not wait long for it."""
        self._closing.set()
        self._some.set()
        self._thread.join(CLOSE_SECONDS)
        super().close()

    def _line(self, record: logging.LogRecord) -> LogLine:
        mask, fields = self._masker, extras(record)
        exception = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        correlation, trace = fields.pop("correlation_id", ""), fields.pop("trace_id", "")
        return LogLine(
            at=datetime.fromtimestamp(record.created, UTC),
            level=record.levelno,
            component=self._role,
            host=self._host,
            pid=record.process or 0,
            logger=record.name,
            message=_storable(mask(record.getMessage())),
            correlation_id=_storable(str(correlation)),
            trace_id=str(trace),
            exception=_storable(mask(exception)),
            extra=msgspec.json.encode(
                {n: _storable(mask(v)) if isinstance(v, str) else v for n, v in fields.items()}
            ).decode(),
        )

    def _lose(self, line: LogLine) -> None:
        self._lost += 1
        self._lost_from = self._lost_from or line.at
        self._lost_to = line.at

    # --- the thread -------------------------------------------------------------------------

    def _ship(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            self._some.wait()
            self._closing.wait(GATHER_SECONDS)  # a burst becomes few runs
            self._some.clear()
            if not self._write_all() and self._closing.wait(RETRY_SECONDS):
                return

    def _write_all(self) -> bool:
        """Write what waits; False when it cannot be written now."""
        while self._waiting:
            run = [self._waiting.popleft() for _ in range(min(RUN, len(self._waiting)))]
            gap = self._gap()
            try:
                self._write([*run, gap] if gap else run)
            except PermanentError:
                for line in run:
                    self._lose(line)
                continue
            except HsiError:
                # Said by whoever needs the database; here it would only fill the file.
                self._waiting.extendleft(reversed(run))
                while len(self._waiting) > MOST_WAITING:
                    self._lose(self._waiting.popleft())
                self._some.set()
                return False
            if gap:
                self._lost, self._lost_from, self._lost_to = 0, None, None
        return True

    def _gap(self) -> LogLine | None:
        if not self._lost or self._lost_from is None or self._lost_to is None:
            return None
        span = {"from": self._lost_from, "to": self._lost_to, "records_missing": self._lost}
        return LogLine(
            at=self._lost_to,
            level=logging.WARNING,
            component=self._role,
            host=self._host,
            pid=0,
            logger=__name__,
            message=f"{self._lost} records are missing here; LOG_FILE_PATH has them",
            extra=msgspec.json.encode(span).decode(),
        )


def _storable(text: str) -> str:
    """Return a text without what no database takes: file names may hold any bytes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIMITIVE: Final = (str, int, float, bool, type(None))


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that were given as `extra=`, and those that our filters add."""
    return {
        name: value if isinstance(value, _PRIMITIVE) else str(value)
        for name, value in vars(record).items()
        if name not in _STANDARD and name != "role" and value != ""
    }
