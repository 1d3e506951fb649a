"""The crash suite's short form: the whole system under blows, then an independent check.

`make soak` runs the long form; tests/support/soak says what both do.
"""

import os
from typing import Any

import psycopg
import pytest
from redis import Redis
from support.soak.checker import check
from support.soak.driver import run
from support.soak.house import House
from support.soak.plan import Cut, Fill, Kill, Options, Pause, plan_of

SHORT = Options(
    seed=int(os.environ.get("HSI_SOAK_SEED", "1")), files=1200, kills=28, gap=(0.7, 1.3)
)


def test_a_seed_always_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan_of(SHORT) == plan_of(SHORT)
    assert plan_of(SHORT) != plan_of(Options(SHORT.seed + 1, 1200, 28, gap=SHORT.gap))


def test_a_plan_deals_every_kind_of_blow_to_every_process() -> None:
    plan = plan_of(Options(seed=3))
    assert len(plan.files) == 20_000
    kills = [blow.target for blow in plan.blows if isinstance(blow, Kill)]
    assert len(kills) == 300
    assert min(kills.count(name) for name in set(kills)) > 20
    assert len(set(kills)) == 10
    (fill,) = (blow for blow in plan.blows if isinstance(blow, Fill))
    full = [b.target for b in plan.blows if isinstance(b, Kill) and 1.5 < b.at - fill.at < 5]
    assert full[0] == "valkey", "a Valkey killed on a full disk comes back without its end"
    for kind in (Pause, Cut, Fill):
        assert any(isinstance(blow, kind) for blow in plan.blows)
    for pause in (blow for blow in plan.blows if isinstance(blow, Pause)):
        during = (pause.at, pause.at + pause.seconds)
        assert not any(
            blow.target == pause.target and during[0] <= blow.at <= during[1]
            for blow in plan.blows
            if isinstance(blow, Kill)
        ), "what is killed while it is stopped never comes back as a zombie"


async def test_the_checker_notices_what_is_lost_doubled_or_behind() -> None:
    complaints: dict[str, list[str]] = {}

    def spoil(house: House) -> None:
        with (
            Redis.from_url(house.valkey.url) as log,
            psycopg.connect(house.postgres.url, autocommit=True) as tables,
        ):
            lane = next(k for k in log.scan_iter("hsi:*:detections") if log.xlen(k))
            (_, fields) = log.xrange(lane, count=1)[0]
            log.xadd(lane, fields)
            complaints["doubled"] = found(house)
            tables.execute("DELETE FROM events WHERE id = (SELECT min(id) FROM events)")
            tables.execute("UPDATE checkpoints SET seq = seq + 1 WHERE projection = 'timeline'")
            complaints["gone"] = found(house)
            tables.execute("DELETE FROM unverified")
            row = ("id", "cam0", "no picture", "file", "detector", "service_away")
            tables.execute(
                "INSERT INTO unverified VALUES (%s, %s, %s, %s, now(), now(), %s, %s)", row
            )
            complaints["unverified"] = found(house)
            notify_again(log)
            complaints["notified"] = found(house)
        picture = min(house.cameras.glob("*/*.jpg"))
        picture.rename(picture.with_name(".hidden.tmp"))
        complaints["folder"] = found(house)

    report = await run(Options(seed=1, files=40, kills=2, gap=(1.0, 1.5)), before_stop=spoil)
    assert report.passed, report.verdict.problems
    assert any(c.startswith("event ids in the log: ") for c in complaints["doubled"])
    assert any(c.startswith("pictures looked at: 1 too many") for c in complaints["doubled"])
    assert any(c.startswith("rows of events: 1 missing") for c in complaints["gone"])
    rows = "rows of what was told unverified: 1 too many"
    assert any(c.startswith(rows) for c in complaints["unverified"])
    assert any(c.startswith("checkpoint of timeline") for c in complaints["gone"])
    told = "notifications told as sent: 1 too many"
    assert any(c.startswith(told) for c in complaints["notified"])
    assert any(c.startswith("files told in the log") for c in complaints["folder"])


def notify_again(log: Redis) -> None:
    """Tell of a notification as sent once more."""
    lane = next(k for k in log.scan_iter("hsi:*:alerts") if log.xlen(k))
    entries: Any = log.xrange(lane)
    fields = next(f for _, f in entries if f[b"type"] == b"notification.sent/1")
    log.xadd(lane, {**fields, b"id": b"another"})


def found(house: House) -> list[str]:
    return check(house.cameras, house.valkey.url, house.postgres.url).problems


@pytest.mark.slow
@pytest.mark.timeout(480)
async def test_nothing_is_lost_and_nothing_doubled_through_kills_pauses_cuts_and_a_full_disk() -> (
    None
):
    report = await run(SHORT)
    assert report.passed, "\n".join(
        [*report.verdict.problems, report.last_words, f"rerun with: {SHORT.rerun()}"]
    )
    assert report.verdict.states.total() == SHORT.files >= 1000
    assert report.kills.total() == SHORT.kills >= 25
    assert report.pauses.total() >= 1
    assert report.cuts.total() >= 3
    assert report.fills.total() == 1
    assert report.verdict.counts["told unverified"] >= 1
    messages = report.verdict.counts["messages of notifications"]
    assert messages >= report.verdict.counts["notifications"] >= 1
