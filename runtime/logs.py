"""Logs of every role: one JSON line a record in a rotating file, and lines for people on stderr.

All processes of one machine write to the same file. Each line is one write to a file opened for
appending, and only the process that holds the lock beside it rotates, so no line is lost or torn.
A log file that cannot be written (a full disk) never stops the work: it is said once on stderr.
"""

import fcntl
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import HsiError
from runtime.context import correlation, correlation_id, trace_id
from runtime.log_shipping import ShippingHandler, Write, extras
from runtime.masking import Masker
from runtime.settings import Settings

__all__ = [
    "JsonFormatter",
    "PeopleFormatter",
    "RotatingFile",
    "configure_logs",
    "correlation",
    "set_log_level",
    "ship_logs",
]

_QUIET = ("asyncio", "aiokafka", "faust", "mode", "aiohttp.access", "watchfiles")


def configure_logs(settings: Settings, role: str) -> None:
    """Send all records of this process to the log file and to stderr; call it once."""
    masker = Masker(settings.secrets)
    handlers = [
        RotatingFile(
            settings.log_file_path, settings.log_file_max_bytes, settings.log_file_backup_count
        ),
        logging.StreamHandler(sys.stderr),
    ]
    for handler, formatter in zip(
        handlers, (JsonFormatter(role, masker), PeopleFormatter(role, masker)), strict=True
    ):
        handler.setFormatter(formatter)
        handler.addFilter(_is_ours)
        handler.addFilter(_add_correlation_id)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    set_log_level(settings)
    logging.captureWarnings(True)
    for warning in settings.warnings:
        logging.getLogger(__name__).warning(warning)


def ship_logs(settings: Settings, role: str, write: Write) -> None:
    """Send records to a table, too, from LOG_DB_MIN_LEVEL on; call it after `configure_logs`."""
    least = logging.getLevelNamesMapping()[settings.log_db_min_level]
    handler = ShippingHandler(write, role, Masker(settings.secrets), least)
    handler.addFilter(_is_ours)
    handler.addFilter(_add_correlation_id)
    logging.getLogger().addHandler(handler)


def set_log_level(settings: Settings) -> None:
    """Write records from LOG_LEVEL on; other libraries' chatter from WARNING on at least."""
    root = logging.getLogger()
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _is_ours(record: logging.LogRecord) -> bool:
    # mode tells each step of a service's life under the name of the module of its class, ours too.
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def _add_correlation_id(record: logging.LogRecord) -> bool:
    # Set where the record is made: a handler may format it later, in another context.
    record.correlation_id = correlation_id.get()
    record.trace_id = trace_id.get()
    return True


class JsonFormatter(logging.Formatter):
    """One JSON object a record; fields given as `extra=` keep their names."""

    def __init__(self, role: str, masker: Masker) -> None:
        super().__init__()
        self._role = role
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "role": self._role,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Masking the text of each value, not the finished line: JSON escapes could hide a secret.
        masked = {k: self._masker(v) if isinstance(v, str) else v for k, v in line.items()}
        return json.dumps(masked, ensure_ascii=False).encode("utf-8", "replace").decode()


class PeopleFormatter(logging.Formatter):
    """`14:03:07 WARNING detect  message [correlation id]`."""

    def __init__(self, role: str, masker: Masker) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(role)s  %(message)s", "%H:%M:%S")
        self._role = role
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        record.role = self._role
        text = super().format(record)
        if identity := getattr(record, "correlation_id", ""):
            head, newline, rest = text.partition("\n")
            text = f"{head} [{identity}]{newline}{rest}"
        # A file name with control characters must not be able to steer a terminal.
        visible = "".join(
            c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text
        )
        return self._masker(visible)


class RotatingFile(logging.Handler):
    """Appends lines to a file shared by several processes and rotates it by size."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        super().__init__()
        self._path = path.absolute()
        self._lock_path = self._path.with_name(self._path.name + ".lock")
        self._max_bytes = max_bytes
        self._backups = backups
        self._failed = False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
        except OSError as error:
            raise HsiError(
                f"LOG_FILE_PATH={path} cannot be written ({error.strerror}):"
                " name a file in a folder that this account may write to"
            ) from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        try:
            self._follow_rotation(len(data))
            os.write(self._file, data)
            self._failed = False
        except OSError as error:
            self._say_once(error)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        super().close()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, 0o640)

    def _follow_rotation(self, size: int) -> None:
        """Rotate when the line would not fit; reopen when somebody rotated or removed the file."""
        if os.fstat(self._file).st_size + size > self._max_bytes and self._is_current():
            self._rotate()
        if not self._is_current():
            os.close(self._file)
            self._file = self._open()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        with self._lock_path.open("a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_current():
                return  # another process was faster
            for number in range(self._backups - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            if self._backups:
                self._path.replace(self._numbered(1))
            else:
                self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _say_once(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            sys.stderr.write(f"The log file {self._path} cannot be written: {error}\n")
