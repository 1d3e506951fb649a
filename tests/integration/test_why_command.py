"""`hsi why` and `hsi as-of` against a running API: what a person reads."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.histories import FAINT, PERSON, batched, closed, detected, escalated, image, parked
from support.histories import assessed as assessment
from support.histories import refined as refinement
from support.serving import Served, served

from domain.errors import HsiError
from hsi.as_of import What, as_of
from hsi.why import why


@pytest.fixture
async def api(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CAMERA_TIMEZONE", "UTC")
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


async def said(
    api: Served, capsys: pytest.CaptureFixture[str], of: str, *, as_json: bool = False
) -> str:
    url = str(api.client.make_url("/"))
    await asyncio.to_thread(why, of, url=url, as_json=as_json)
    return capsys.readouterr().out


async def test_why_nothing_was_sent(api: Served, capsys: pytest.CaptureFixture[str]) -> None:
    picture = image(1)
    await api.append(picture, detected(picture, FAINT))
    shown = await said(api, capsys, picture.path)
    first, *rest = shown.splitlines()
    assert first == (
        "Nothing was sent about this picture because nothing in it reached the threshold: "
        "the best was dog at 0.20, 0.50 is needed."
    )
    assert any("front_door/1.jpg" in line and picture.file_id in line for line in rest)
    assert any("detected" in line and "detections/" in line for line in rest)
    assert any(line.split() == ["dog", "0.20", "no", "1,2", "3×4"] for line in rest)
    as_json = await said(api, capsys, picture.file_id, as_json=True)
    assert json.loads(as_json)["file"]["file_id"] == picture.file_id


async def test_where_an_event_came_from(api: Served, capsys: pytest.CaptureFixture[str]) -> None:
    picture = image(1)
    fast, final = assessment(picture, stage="fast_path"), assessment(picture)
    await api.append(picture, detected(picture, PERSON, FAINT), batched(picture, picture))
    await api.append(escalated(picture), fast, closed(picture), final, refinement(final))
    shown = await said(api, capsys, final.event_id)
    assert shown.startswith(f"Event {final.event_id}: risk 70 of 100 (high)\nmodel final 70\n")
    for words in (
        "+40",
        "a person was seen",
        'raw text: {"score": 75}',
        "prompt 1 abababababab",
        "(no longer in force)",
        "closed (idle)",
        "fast path at",
        "person 0.91",
        "1 below 0.50",
        "front_door/1.jpg",
        "rtdetr-v2-r18 1, 12 ms",
    ):
        assert words in shown, words


async def test_what_steers_a_terminal_is_shown_as_text(
    api: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = image(1, name="[bold]\\u001b[2Jx")
    await api.append(picture, parked("detect", picture=picture))
    shown = await said(api, capsys, picture.file_id)
    assert "[bold]" in shown
    assert "\x1b" not in shown
    assert "What to do: " in shown


async def test_state_as_of_a_time(api: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await api.register("front")
    url = str(api.client.make_url("/"))
    await asyncio.to_thread(as_of, "2026-03-01T07:00", What.CAMERAS, url=url)
    assert "No camera was known then." in capsys.readouterr().out
    for what, words in ((What.SETTINGS, "No settings"), (What.RULES, "No rules")):
        await asyncio.to_thread(as_of, "2026-03-01T07:00Z", what, url=url)
        assert words in capsys.readouterr().out
    with pytest.raises(HsiError, match="is not a time: give ISO 8601"):
        as_of("yesterday", What.CAMERAS, url=url)


async def test_what_is_said_when_it_cannot_be_told(api: Served) -> None:
    url = str(api.client.make_url("/"))
    with pytest.raises(HsiError, match=r"no file 'front/none\.jpg' was ever taken in: give"):
        await asyncio.to_thread(why, "front/none.jpg", url=url)
    with pytest.raises(HsiError, match="give an id, or the path"):
        why(" ", url=url)
    with pytest.raises(HsiError, match=r"does not answer .*: start it with `hsi up`"):
        await asyncio.to_thread(why, "evt_1", url="http://127.0.0.1:9")
    with pytest.raises(HsiError, match="must begin with http"):
        why("evt_1", url="file:///etc/passwd")
    not_text = "front/caf\udce9.jpg"
    with pytest.raises(HsiError, match="was ever taken in"):
        await asyncio.to_thread(why, not_text, url=url)
