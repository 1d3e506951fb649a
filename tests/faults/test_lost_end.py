"""A Redis that comes back without the last entries it took in: noticed, and made good."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from support.logs import new, opened, received, until
from support.loss import copy, put_back
from support.servers import PrivateValkey
from support.watching import QUICK, Watched, drop, jpeg, watched

from domain.errors import HsiError
from domain.events import ImageReceived
from inference.pictures import PictureStore
from streams import continuity
from streams.continuity import LostEndError
from streams.envelope import START, Position
from streams.log import EventLog
from streams.names import stream_key
from streams.trim import Bound, trim

SOON = replace(QUICK, rescan_seconds=0.5)


async def test_a_restart_that_lost_nothing_is_no_concern(private_valkey: PrivateValkey) -> None:
    async with opened(private_valkey.url) as log:
        await log.append(new(received("a")))
        assert len(await log.read("files", 0, START, 10)) == 1
        private_valkey.kill()
        private_valkey.start()
        await _reconnect(log)
        assert len(await log.read("files", 0, START, 10)) == 1


async def test_a_process_that_read_what_is_lost_must_start_again(
    private_valkey: PrivateValkey, tmp_path: Path
) -> None:
    async with opened(private_valkey.url) as log:
        await log.append(new(received("a")))
        copy(private_valkey, tmp_path / "kept")
        lost = await log.append(new(received("b")))
        await log.read("files", 0, START, 10)
        put_back(private_valkey, tmp_path / "kept")
        async with opened(private_valkey.url) as other:
            # The log goes on behind the gap, so its end alone does not tell.
            assert await other.append(new(received("c"))) > lost
            assert await other.has_lost("files", 0, lost)
        for _ in range(2):
            with pytest.raises(LostEndError, match="start again"):
                await _reconnect(log)


async def test_an_answer_that_outlives_the_server_is_looked_for_a_second_time(
    private_valkey: PrivateValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuity, "SECOND_LOOK_SECONDS", 0.1)
    async with opened(private_valkey.url) as log:
        await log.append(new(received("a")))
        (kept,) = await log.read("files", 0, START, 10)
        private_valkey.kill()
        private_valkey.start()
        await _reconnect(log)
        # This answer was on its way when the first look found everything in place.
        log.continuity.saw(stream_key(0, "files"), Position(kept.position.ms + 1, 0))

        async def finds_nothing() -> bool:
            return not await log.read("files", 0, START, 10)

        with pytest.raises(LostEndError, match="start again"):
            await until(finds_nothing)


async def test_what_was_deleted_or_trimmed_is_not_lost(valkey_url: str) -> None:
    async with opened(valkey_url) as log:
        positions = [await log.append(new(received(name))) for name in "abcd"]
        name = stream_key(0, "files")
        await log.client.xdel(name, str(positions[1]))
        await log.client.xtrim(name, minid=str(positions[1]))
        assert [await log.has_lost("files", 0, at) for at in positions] == [False] * 4
        assert not await log.has_lost("files", 0, START)
        assert not await log.is_whole("files", 0)
        beyond = Position(positions[3].ms + 1, 0)
        assert await log.has_lost("files", 0, beyond)
        assert await log.has_lost("parked", 0, beyond)


async def test_a_stream_that_lost_all_it_held_and_went_on_is_no_trimmed_one(
    valkey_url: str,
) -> None:
    async with opened(valkey_url) as log:
        before = Position(1, 0)
        await log.append(new(received("a")))
        assert await log.has_lost("files", 0, before)
        assert await log.is_whole("files", 0)

        second = await log.append(new(received("b")))
        await trim(log, Bound("files", 0, second, "test"))
        assert not await log.has_lost("files", 0, before)
        assert await log.is_whole("files", 0)

        # All but the trimmed part is lost, and the stream begins behind that again.
        await log.client.xtrim(stream_key(0, "files"), maxlen=0, approximate=False)
        await log.append(new(received("c")))
        assert await log.has_lost("files", 0, second)


async def test_files_whose_events_are_lost_are_taken_in_again_by_the_running_watch(
    private_valkey: PrivateValkey, tmp_path: Path
) -> None:
    async with watched(private_valkey.url, tmp_path, options=SOON) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        await _told(private_valkey.url, 1, tmp_path)
        copy(private_valkey, tmp_path / "kept")
        drop(cameras.base / "Front" / "b.jpg", jpeg(2))
        before = await _told(private_valkey.url, 2, tmp_path)
        put_back(private_valkey, tmp_path / "kept")
        assert await _told(private_valkey.url, 2, tmp_path) == before, (
            "the same events, the same ids"
        )
        drop(cameras.base / "Front" / "c.jpg", jpeg(3))
        assert len(await _told(private_valkey.url, 3, tmp_path)) == 3


async def _told(url: str, count: int, folder: Path) -> list[ImageReceived]:
    """Wait until so many pictures are in the log; read it as somebody else than the watch."""
    log = await EventLog.open(url)
    try:
        there = Watched(folder, PictureStore(folder, folder / "frames"), log)
        return [e for e in await there.until_count(count) if isinstance(e, ImageReceived)]
    finally:
        await log.close()


async def _reconnect(log: EventLog) -> None:
    """Use the log until it has connected anew."""
    for _ in range(5):
        try:
            await log.newest("files", 0)
        except LostEndError:
            raise
        except HsiError:
            await asyncio.sleep(0)
