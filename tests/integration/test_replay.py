"""What-if on real histories: no difference without a change, and the exact one with a change."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from support.logs import NOON, POLICY, box, detected, new, opened, quick
from support.whatif import (
    ALERT_WITHIN_SECONDS,
    close_all,
    history,
    live,
    order,
    replayed,
    stored_payloads,
)

from agents.applied import applied
from domain.errors import HsiError
from domain.events import SYSTEM
from domain.whatif import EventOutcome
from hsi.whatif.folder import RunFolder
from hsi.whatif.make import make
from hsi.whatif.result import Changes
from streams.envelope import START
from streams.log import EventLog

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url, partitions=2) as log:
        yield log


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the log's clock close batches after a tenth of a second."""
    monkeypatch.setattr("domain.batching.GRACE", timedelta(milliseconds=100) - POLICY.idle)


def outcomes(state: Path, name: str) -> list[EventOutcome]:
    files = sorted((state / "replays" / name).glob("changed-*.jsonl"))
    return [
        msgspec.json.decode(line, type=EventOutcome)
        for file in files
        for line in file.read_bytes().splitlines()
    ]


async def everything(log: EventLog) -> dict[bytes, bytes]:
    """Return every key of the server with its whole value."""
    keys = await log.client.keys("*")
    return {key: await log.client.dump(key) for key in sorted(keys)}


async def recorded_at(log: EventLog) -> datetime:
    partition = log.partition_of(SYSTEM)
    return (await log.read("system", partition, START, 1))[0].recorded_at


def digests(payloads: list[bytes]) -> list[str]:
    return sorted(blake2b(data, digest_size=12).hexdigest() for data in payloads)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("seed", [1, 2])
async def test_unchanged_settings_make_the_same_bytes_every_time(
    log: EventLog, valkey_url: str, tmp_path: Path, seed: int
) -> None:
    await live(log, history(seed, 300, ("porch", "yard", "drive")))
    await close_all(log)
    before = await everything(log)
    for name in ("once", "twice"):
        result, changes = await replayed(valkey_url, tmp_path, name, order(tmp_path))
        assert changes == ()
        assert result.same == result.events_before == result.events_after > 60
        assert result.unfinished == 0
        made = outcomes(tmp_path, name)
        closed = await stored_payloads(log, "batches", "batch.closed")
        assert sorted(one.evidence.closed for one in made) == digests(closed)
        escalated = await stored_payloads(log, "batches", "batch.escalated")
        assert sorted(e for one in made if (e := one.evidence.escalated)) == digests(escalated)
        assessed = await stored_payloads(log, "assessments", "risk.assessed")
        again = [e for one in made for e in (one.evidence.assessed, one.evidence.fast_assessed)]
        # But for the limit of its age as an alert, which no setting that can be tried decides.
        limit = f',"alert_within_seconds":{ALERT_WITHIN_SECONDS}'.encode()
        assert all(data.count(limit) == 1 for data in assessed)
        rest = [data.replace(limit, b"") for data in assessed]
        assert sorted(filter(None, again)) == digests(rest)
    assert await everything(log) == before


async def test_a_higher_threshold_loses_exactly_what_was_computed_by_hand(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    hour = 3600.0
    given = [
        # 1: one car at 0.55. With 0.6 nothing is left of it.
        detected("a1", 0, box("car", 0.55)),
        # 2: two cars, the first of them below 0.6: the same event without its first picture.
        detected("b1", hour, box("car", 0.59)),
        detected("b2", hour + 10, box("car", 0.8)),
        # 3: exactly at the threshold, and a person beside it: untouched.
        detected("c1", 2 * hour, box("car", 0.6), box("person", 0.95)),
        # 4: three pictures, the middle one falls away and the gap becomes 40 s: one becomes two.
        detected("d1", 3 * hour, box("car", 0.9)),
        detected("d2", 3 * hour + 20, box("car", 0.52)),
        detected("d3", 3 * hour + 40, box("car", 0.9)),
        # 5: nothing but doubtful pictures.
        detected("e1", 4 * hour, box("dog", 0.51)),
        detected("e2", 4 * hour + 5, box("dog", 0.599)),
        # 6: a doubtful person among sure cars: the event is not about a person any more.
        detected("f1", 5 * hour, box("car", 0.9), box("person", 0.55)),
        # 7: below 0.5 at the time: no event, then or now.
        detected("g1", 6 * hour, box("person", 0.49)),
    ]
    await live(log, given)
    await live(log, [detected("z", 10 * hour)])
    end = (NOON + timedelta(hours=9)).isoformat()
    result, changes = await replayed(
        valkey_url, tmp_path, "up", order(tmp_path, "DETECTION_CONFIDENCE_THRESHOLD=0.6", end=end)
    )
    by_kind = {
        kind: [c.shown.picture_ids for c in changes if c.kind == kind]
        for kind in ("gained", "lost", "details")
    }
    assert by_kind["lost"] == [("a1",), ("e1", "e2")]
    assert by_kind["gained"] == [("d3",)]
    assert (result.events_before, result.events_after) == (6, 5)
    changed = {c.before.picture_ids: c for c in changes if c.before and c.after}
    assert set(changed) == {("b1", "b2"), ("d1", "d2", "d3"), ("f1",)}
    assert changed["b1", "b2"].shown.picture_ids == ("b2",)
    assert changed["d1", "d2", "d3"].shown.picture_ids == ("d1",)
    person = changed[("f1",)]
    # By day: a person is 12 points, 7 and nothing else; a car 5: see domain/risk_rules.py.
    assert person.before is not None
    assert person.before.score > person.shown.score
    assert result.same == 1
    # Lower again than it was: the picture at 0.49 becomes an event.
    lower = order(tmp_path, "DETECTION_CONFIDENCE_THRESHOLD=0.45", end=end)
    _, changes = await replayed(valkey_url, tmp_path, "down", lower)
    assert [(c.kind, c.shown.picture_ids) for c in changes] == [("gained", ("g1",))]


@pytest.mark.usefixtures("soon")
async def test_a_span_in_the_middle_knows_what_was_usual_before_it(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    """Habits of the days before count, and so do batches across both ends."""
    pictures = history(7, 400, ("porch", "yard"))
    await live(log, pictures)
    await close_all(log)
    moments = sorted(one.captured_at for one in pictures)
    for number, (first, last) in enumerate(((100, 300), (37, 41), (250, 399), (0, 5))):
        span = order(
            tmp_path, begin=moments[first], end=moments[last].isoformat(), cameras=("Porch",)
        )
        result, changes = await replayed(valkey_url, tmp_path, f"middle-{number}", span)
        assert changes == ()
        assert result.same == result.events_before
    assert {one.camera_id for one in outcomes(tmp_path, "middle-0")} == {"porch"}


@pytest.mark.usefixtures("soon")
async def test_settings_that_changed_on_the_way_are_taken_from_the_log(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    """What is in force today does not matter: the log says what was."""
    ordered = order(tmp_path)
    told = applied(ordered.settings, NOON)
    await log.append(new(told, "settings"))
    await live(log, history(3, 60, ("porch",)))
    await close_all(log)
    today = order(tmp_path, environ={"BATCH_WINDOW_SECONDS": "5", "SEVERITY_LOW_MAX": "1"})
    assert today.settings.batch_window_seconds == 5
    result, changes = await replayed(valkey_url, tmp_path, "then", today)
    assert changes == ()
    assert result.notes == (
        "The log knows the settings since"
        f" {(await recorded_at(log)).isoformat(timespec='seconds')}; the first known ones were"
        " taken for the time before.",
    )
    tried = await replayed(
        valkey_url, tmp_path, "tried", order(tmp_path, "BATCH_WINDOW_SECONDS=5")
    )
    assert tried.changes
    shown = {s.name: (s.before, s.after) for s in tried.result.settings}
    assert shown["BATCH_WINDOW_SECONDS"] == ("90", "5")


async def test_an_event_that_is_not_assessed_yet_is_neither_gained_nor_lost(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, [detected("a", 0), detected("b", 1000), detected("c", 1010)])
    result, changes = await replayed(valkey_url, tmp_path, "open", order(tmp_path))
    assert (result.same, result.unfinished, changes) == (1, 1, ())


@pytest.mark.usefixtures("soon")
async def test_a_killed_run_goes_on_where_it_was(
    log: EventLog, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live(log, history(5, 250, ("porch", "yard", "drive")))
    await close_all(log)
    tried = order(tmp_path, "FAST_PATH_CONFIDENCE_THRESHOLD=0.7", "BATCH_WINDOW_SECONDS=20")
    whole, changes = await replayed(valkey_url, tmp_path, "whole", tried)
    assert changes
    monkeypatch.setattr("hsi.whatif.run.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("streams.history.History.read_all.__kwdefaults__", {"count": 30})
    left = 90

    def cancel(pictures: int) -> None:
        nonlocal left
        left -= pictures
        if left < 0:
            raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "replays", "halved")
    with folder, pytest.raises(KeyboardInterrupt):
        await make(tried, folder, valkey_url, cancel)
    assert not (folder.path / "result.json").exists()
    counted: list[int] = []
    with folder:
        resumed = await make(tried, folder, valkey_url, counted.append)
        assert tuple(Changes(folder)) == changes
    assert counted[0] > 0
    assert replace(resumed, name="whole", seconds=whole.seconds) == whole
    with folder:
        assert await make(tried, folder, "unix:///nowhere", lambda _: None) == resumed
    with folder, pytest.raises(HsiError, match="begun with other options"):
        await make(order(tmp_path), folder, valkey_url, lambda _: None)


@pytest.mark.usefixtures("soon")
async def test_two_runs_go_side_by_side_and_one_name_runs_once(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, history(6, 200, ("porch", "yard")))
    await close_all(log)
    before = await everything(log)
    up = order(tmp_path, "DETECTION_CONFIDENCE_THRESHOLD=0.8")
    window = order(tmp_path, "BATCH_WINDOW_SECONDS=10")
    both = await asyncio.gather(
        replayed(valkey_url, tmp_path, "up", up), replayed(valkey_url, tmp_path, "window", window)
    )
    alone = await replayed(valkey_url, tmp_path, "alone", up)
    found = replace(both[0].result, name="alone", seconds=alone.result.seconds)
    assert found == alone.result
    assert both[0].changes == alone.changes
    assert both[1].changes != alone.changes
    assert await everything(log) == before
    with RunFolder(tmp_path / "replays", "up"), pytest.raises(HsiError, match="another process"):
        await replayed(valkey_url, tmp_path, "up", up)
