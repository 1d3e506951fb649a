"""Log records of a role say what they are about, wherever in a step they are written."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.logs import Stage, opened, quick, received, until

from agents.intake import new_event
from domain.errors import PermanentError, TransientError
from domain.outcomes import Done, Outcome, Park, Retry
from domain.trace import trace_id_of
from runtime.logs import _add_correlation_id
from streams.channel import ChannelOptions, each
from streams.envelope import Envelope

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")
logger = logging.getLogger("agents.test")


class Kept(logging.Handler):
    """Keeps records as the handlers of a process see them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.addFilter(_add_correlation_id)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def about(self, text: str) -> set[tuple[str, str]]:
        """Return what the records with a text are about."""
        return {(r.correlation_id, r.trace_id) for r in self.records if text in r.getMessage()}


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, root = Kept(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(before)
    root.removeHandler(handler)


def ids(name: str) -> tuple[str, str]:
    return f"file-{name}", trace_id_of(f"file-{name}")


async def handled(url: str, names: str, options: ChannelOptions, handler: Any) -> None:
    """Let a stage handle pictures until none is left."""
    async with opened(url) as log:
        await log.append_all([new_event(f"file-{name}", received(name)) for name in names])
        async with Stage(log, "detect", "one", options, handler=handler):

            async def done() -> bool:
                return all(
                    group.left == 0 for group in await log.backlog() if group.group == "detect"
                )

            await until(done)


async def test_entry_by_entry(valkey_url: str, kept: Kept) -> None:
    tried: set[str] = set()

    async def handle(envelope: Envelope) -> Outcome:
        name = envelope.correlation_id
        logger.info("handling %s", name)
        if name == "file-b" and name not in tried:
            tried.add(name)
            return Retry(TransientError("not now"), after=0.01)
        if name == "file-c":
            return Park(PermanentError("never"))
        if name == "file-d" and name not in tried:
            tried.add(name)
            raise ValueError("a bug")
        return Done()

    await handled(valkey_url, "abcd", ChannelOptions(), each(handle))
    for name in "abcd":
        assert kept.about(f"handling file-{name}") == {ids(name)}
    assert kept.about("not now") == {ids("b")}
    assert kept.about("is parked") == {ids("c")}
    assert kept.about("a handler failed") == {ids("d")}
    assert kept.about("a bug") == {ids("d")}


async def test_a_run_of_one_entry(valkey_url: str, kept: Kept) -> None:
    async def handle(envelopes: Sequence[Envelope]) -> list[Outcome]:
        logger.info("a run of %d", len(envelopes))
        return [Done()] * len(envelopes)

    await handled(valkey_url, "a", ChannelOptions(run_size=1), handle)
    assert kept.about("a run of 1") == {ids("a")}


async def test_a_run_of_several_is_about_none_of_them_alone(valkey_url: str, kept: Kept) -> None:
    async def handle(envelopes: Sequence[Envelope]) -> list[Outcome]:
        logger.info("a run of %d", len(envelopes))
        return [Done()] * len(envelopes)

    await handled(valkey_url, "abc", ChannelOptions(), handle)
    assert kept.about("a run of 3") == {("", "")}
