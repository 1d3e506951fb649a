"""Log records on their way to the table: never waited for, gaps told, secrets masked."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from support.watching import eventually

from domain.errors import PermanentError, ServiceUnavailableError
from runtime import log_shipping
from runtime.log_shipping import LogLine, ShippingHandler
from runtime.masking import MASK, Masker


class Table:
    """Takes runs, or does not, as told."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.refuses: Exception | None = None
        self.calls = 0
        self.refused = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, lines: Sequence[LogLine]) -> None:
        self.calls += 1
        self.may_go.wait(10)
        logging.getLogger("shipping").warning("a word of the thread itself")
        refuses = self.refuses  # once: the test's thread takes it back at any moment
        if refuses is not None:
            self.refused += 1
            raise refuses
        self.lines += lines

    def said(self) -> list[str]:
        return [line.message for line in self.lines]


Start = Callable[[Table], logging.Logger]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(log_shipping, "GATHER_SECONDS", 0.02)
    monkeypatch.setattr(log_shipping, "RETRY_SECONDS", 0.05)
    logger = logging.Logger("shipping", logging.DEBUG)
    handlers: list[ShippingHandler] = []

    def started(table: Table) -> logging.Logger:
        handlers.append(ShippingHandler(table, "detect", Masker(frozenset({"tiger"})), 10))
        logger.addHandler(handlers[-1])
        return logger

    yield started
    for handler in handlers:
        handler.close()


async def test_records_come_in_runs_with_their_fields(start: Start) -> None:
    table = Table()
    logger = start(table)
    for number in range(20):
        logger.info("picture %d", number, extra={"camera": "porch", "correlation_id": "pic_1"})
    await eventually(lambda: len(table.lines) == 20)
    assert table.calls < 10
    line = table.lines[0]
    assert (line.component, line.level, line.correlation_id) == ("detect", 20, "pic_1")
    assert line.extra == '{"camera":"porch"}'


async def test_secrets_and_odd_bytes_do_not_reach_the_table(start: Start) -> None:
    table = Table()
    logger = start(table)
    try:
        raise ValueError("tiger")
    except ValueError:
        logger.exception("redis://:tiger@h \udcff\0", extra={"file": "tiger\0"})
    await eventually(lambda: bool(table.lines))
    (line,) = table.lines
    assert "tiger" not in str(line)
    assert line.message == f"redis://:{MASK}@h ?\ufffd"


async def test_a_table_that_hangs_holds_nobody_up_and_the_gap_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_shipping, "MOST_WAITING", 10)
    table = Table()
    table.may_go.clear()
    table.refuses = ServiceUnavailableError("database", "away")
    logger = start(table)
    for number in range(100):
        logger.info("%d", number)
    table.may_go.set()
    await eventually(lambda: table.refused >= 3)
    table.refuses = None
    await eventually(lambda: "99" in table.said())
    (gap,) = [line for line in table.lines if line.logger == "runtime.log_shipping"]
    assert gap.message.startswith("90 records are missing")
    assert '"records_missing":90' in gap.extra
    assert [m for m in table.said() if m.isdecimal()] == [str(n) for n in range(90, 100)]


async def test_a_run_that_can_never_be_stored_does_not_stop_the_others(start: Start) -> None:
    table = Table()
    table.refuses = PermanentError("bad")
    logger = start(table)
    logger.info("bad one")
    await eventually(lambda: table.refused >= 1)
    table.refuses = None
    logger.info("good one")
    await eventually(lambda: "good one" in table.said())
    assert any("1 records are missing" in message for message in table.said())


async def test_a_request_that_went_well_is_in_the_file_only(start: Start) -> None:
    table = Table()
    logger = start(table)
    access = logging.Logger("api.access", logging.DEBUG)
    access.handlers = logger.handlers
    access.info("GET / 200")
    access.warning("GET / 500")
    await eventually(lambda: bool(table.lines))
    assert table.said() == ["GET / 500"]


def test_closing_writes_what_is_left(start: Start) -> None:
    table = Table()
    logger = start(table)
    logger.info("last words")
    logger.handlers[0].close()
    assert table.said() == ["last words"]
