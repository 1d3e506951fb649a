"""Inbox and scan: what arrives now goes first, each path once, everything bounded."""

import asyncio
import os
from pathlib import Path

import pytest
from support.watching import drop

from agents import scan
from agents.inbox import Inbox
from agents.scan import Found, runs_below


async def test_live_paths_go_before_the_backlog() -> None:
    inbox = Inbox()
    await inbox.offer_backlog("old")
    inbox.offer("one")
    inbox.offer("two")
    assert [await inbox.take() for _ in range(3)] == [
        ("one", False),
        ("two", False),
        ("old", False),
    ]


async def test_a_path_is_in_it_once_and_stays_new() -> None:
    inbox = Inbox()
    inbox.offer("a", is_new=True)
    inbox.offer("a")
    assert len(inbox) == 1
    assert await inbox.take() == ("a", True)


async def test_a_change_during_a_look_brings_the_path_back_afterwards() -> None:
    inbox = Inbox()
    inbox.offer("a")
    await inbox.take()
    inbox.offer("a")
    waiting = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.done("a")
    assert await waiting == ("a", False)
    inbox.done("a")
    assert len(inbox) == 0


async def test_a_full_inbox_refuses_new_paths_and_keeps_known_ones() -> None:
    inbox = Inbox(most_live=2)
    assert inbox.offer("a")
    assert inbox.offer("b")
    assert not inbox.offer("c")
    assert inbox.offer("a")


async def test_the_backlog_waits_for_room() -> None:
    inbox = Inbox(most_backlog=1)
    await inbox.offer_backlog("a")
    waiting = asyncio.create_task(inbox.offer_backlog("b"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await inbox.take() == ("a", False)
    await waiting
    assert await inbox.take() == ("b", False)


async def test_a_closed_inbox_hands_nothing_out() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    inbox.offer("a")
    inbox.close()
    assert await waiting in {None, ("a", False)}
    assert await inbox.take() is None


def found_below(base: Path, start: str = "") -> list[list[Found]]:
    return list(runs_below(os.path.realpath(base), start, pytest.fail))


def test_a_scan_comes_in_bounded_runs_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "RUN", 7)
    for number in range(20):
        path = tmp_path / "Front" / f"{19 - number}.jpg"
        drop(path, b"x")
        os.utime(path, ns=(number, number))
    runs = found_below(tmp_path)
    assert [len(run) for run in runs] == [7, 7, 6]
    assert [found.modified_ns for run in runs for found in run] == list(range(20))
    assert runs[0][0] == Found(0, "Front/19.jpg", 1)
    assert runs[0][0].signature == "1:0"


def test_dated_folders_come_in_their_order_and_odd_entries_do_not(tmp_path: Path) -> None:
    for day in ("20240103", "20240101", "20240102"):
        drop(tmp_path / "Front" / day / "a.jpg", b"x")
    (tmp_path / "Front" / "20240101" / ".b.jpg").touch()
    (tmp_path / "Front" / "@eaDir").mkdir()
    (tmp_path / "Front" / "@eaDir" / "c.jpg").touch()
    (tmp_path / "Loop").symlink_to(tmp_path)
    paths = [found.path for run in found_below(tmp_path) for found in run]
    assert paths[1:] == [f"Front/2024010{day}/a.jpg" for day in (1, 2, 3)]
    assert paths[0] == "Loop"
    assert found_below(tmp_path, "Loop") == []
    assert [run[0].path for run in found_below(tmp_path, "Front/20240102")] == [
        "Front/20240102/a.jpg"
    ]


def test_an_unreadable_folder_is_said_and_a_vanished_one_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(tmp_path / "Locked" / "a.jpg", b"x")
    drop(tmp_path / "Open" / "a.jpg", b"x")
    real = os.scandir

    def guarded(path: str) -> object:
        # Root reads everything, so the refusal is played.
        if path.endswith("Locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("agents.scan.os.scandir", guarded)
    said: list[str] = []
    runs = list(runs_below(os.path.realpath(tmp_path), "", said.append))
    assert [found.path for run in runs for found in run] == ["Open/a.jpg"]
    assert said == ["Locked cannot be read (Permission denied); let the account of HSI read it"]
    assert found_below(tmp_path, "Gone") == []
