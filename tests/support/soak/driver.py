"""One run: drop files, deal blows, wait until the house is at rest, check it independently."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from support.servers import temporary_folder
from support.sink import Sink
from support.soak.checker import GROUPS, PARTITIONS, Verdict, check, check_wire
from support.soak.detector import fake_detector
from support.soak.disk import small_disk
from support.soak.house import House
from support.soak.pictures import picture
from support.soak.plan import Away, Blow, Cut, File, Fill, Kill, Options, Pause, Plan, plan_of

from runtime.tasks import end

SLOW_SECONDS = 0.4
LOOK_SECONDS = 0.5
CATCH_UP_SECONDS = 10.0
DISK_MIB = (512, 3072)
"""For a short and for a long run."""

_OPEN_BATCHES = """
SELECT (SELECT count(DISTINCT batch_id) FROM pictures)
     - (SELECT count(*) FROM events WHERE stage = 'final')
"""

Say = Callable[[str], None]
Spoil = Callable[[House], None]


@dataclass
class Report:
    """What was done and what came of it."""

    options: Options
    verdict: Verdict
    kills: Counter[str]
    unasked: Counter[str]
    pauses: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    fills: Counter[str] = field(default_factory=Counter)
    evidence: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    settled_after: float | None = None
    last_words: str = ""
    why: list[str] = field(default_factory=list)
    """Last lines of the processes that ended without being killed."""

    @property
    def passed(self) -> bool:
        return not self.verdict.problems


class Driver:
    """Carries one plan out."""

    def __init__(self, house: House, plan: Plan, say: Say) -> None:
        self._house = house
        self._plan = plan
        self._say = say
        self.pauses: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.fills: Counter[str] = Counter()
        self.aways = 0
        self._going: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Drop every file and deal every blow at its time; return when all are over."""
        began = time.monotonic()
        blows = asyncio.create_task(self._deal(began))
        await self._drop(began)
        await blows
        if self._going:
            await asyncio.wait(self._going)
        for task in self._going:
            task.result()

    async def _drop(self, began: float) -> None:
        for file in self._plan.files:
            await asyncio.sleep(max(0.0, began + file.at - time.monotonic()))
            self._launch(self._write(file))

    async def _write(self, file: File) -> None:
        seed = self._house.options.seed
        number = file.number if file.copy_of is None else file.copy_of
        data = picture(seed, number)
        path = self._house.cameras / file.path
        if file.drop == "broken":
            data = data[: len(data) // 2]
        if file.drop != "slow":
            path.write_bytes(data)
            return
        with path.open("wb") as out:
            out.write(data[:300])
            out.flush()
            await asyncio.sleep(SLOW_SECONDS)
            out.write(data[300:])

    async def _deal(self, began: float) -> None:
        for number, blow in enumerate(self._plan.blows, 1):
            await asyncio.sleep(max(0.0, began + blow.at - time.monotonic()))
            if number % 50 == 0:
                kills = self._house.kills.total()
                self._say(f"{blow.at:.0f} s of {self._plan.seconds:.0f}: {kills} kills")
            self._launch(self._strike(blow))

    async def _strike(self, blow: Blow) -> None:
        house = self._house
        match blow:
            case Kill(_, target):
                await house.kill(target)
            case Pause(_, target, seconds):
                self.pauses[target] += await house.pause(target, seconds)
            case Fill(_, seconds):
                self.fills["disk" if house.disk.is_real else "memory"] += 1
                await house.fill(seconds)
            case Cut():
                await self._cut(blow)
            case Away(_, seconds):
                self.aways += 1
                house.detector.away = True
                await asyncio.sleep(seconds)
                house.detector.away = False

    async def _cut(self, blow: Cut) -> None:
        proxy = self._house.proxies[blow.target]
        self.cuts[f"{blow.target}: {blow.way}"] += 1
        match blow.way:
            case "cut":
                proxy.cut()
            case "answers lost":
                await proxy.lose_answers(blow.seconds)
            case "stalled":
                await proxy.stall(blow.seconds)

    def _launch(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = asyncio.create_task(work)
        self._going.add(task)


async def run(
    options: Options, say: Say = lambda _: None, *, before_stop: Spoil = lambda _: None
) -> Report:
    """Carry the plan of `options` out on a scratch house and check what came of it.

    `before_stop` is called with the house once it is checked and still runs.
    """
    with temporary_folder() as folder, small_disk(folder, DISK_MIB[options.files > 5000]) as disk:
        async with fake_detector() as detector, Sink().open() as sink:
            house = House(folder, options, detector, sink, disk)
            try:
                return await _run(house, options, say, before_stop)
            finally:
                for proxy in house.proxies.values():
                    await proxy.close()
                await asyncio.to_thread(house.close)


async def _run(house: House, options: Options, say: Say, before_stop: Spoil) -> Report:
    began = time.monotonic()
    plan = plan_of(options)
    for number in range(options.cameras):
        (house.cameras / f"cam{number}").mkdir(parents=True)
    await house.start()
    say(f"the house runs; {len(plan.files)} files and {len(plan.blows)} blows follow")
    keeping = asyncio.create_task(house.serve())
    driver = Driver(house, plan, say)
    try:
        await driver.run()
        say("no more blows; waiting until the house is at rest")
        settled = await _settled(house, options)
        verdict = await _checked(house)
        await asyncio.to_thread(before_stop, house)
    finally:
        await end(keeping)
    if settled is None:
        verdict.problems.insert(0, f"not at rest within {options.settle_seconds:g} s")
    report = Report(options, verdict, house.kills, house.unasked)
    report.last_words = house.last_words() if verdict.problems else ""
    report.pauses, report.cuts, report.fills = driver.pauses, driver.cuts, driver.fills
    report.settled_after, report.why = settled, house.why
    report.evidence = {
        "times that the detector was away": driver.aways,
        "settlements refused to a zombie": house.said("another consumer owns those"),
        "partitions taken over": house.said("another process owns it now"),
        "tables made anew, since the log had lost its end": house.said("tables were made anew"),
    }
    verdict.problems += await house.stop()
    report.seconds = time.monotonic() - began
    return report


async def _checked(house: House) -> Verdict:
    """Check; the projections get a moment for what the groups did last, nothing else can heal."""
    until = time.monotonic() + CATCH_UP_SECONDS
    while True:
        verdict = await asyncio.to_thread(
            check, house.cameras, house.valkey.url, house.postgres.url
        )
        check_wire(verdict, house.sink.keys, lost_end=house.said("lost its end") > 0)
        if not verdict.problems or time.monotonic() > until:
            return verdict
        await asyncio.sleep(LOOK_SECONDS)


async def _settled(house: House, options: Options) -> float | None:
    """Wait until every file is in the ledger, none pending, and every group done."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < options.settle_seconds:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            if await asyncio.to_thread(_at_rest, house, options.files):
                return passed
        except (psycopg.Error, RedisError):
            continue  # A server is just starting again.
    return None


def _at_rest(house: House, files: int) -> bool:
    with psycopg.connect(house.postgres.url) as tables:
        rows = tables.execute("SELECT state, count(*) FROM file_states GROUP BY state").fetchall()
        open_batches = tables.execute(_OPEN_BATCHES).fetchone()
    states: dict[str, int] = dict(rows)
    if sum(states.values()) < files or states.get("pending") or open_batches != (0,):
        return False
    with Redis.from_url(house.valkey.url) as client:
        return all(
            group["pending"] == 0 and not group["lag"]
            for stream in GROUPS.values()
            for partition in range(PARTITIONS)
            for group in client.xinfo_groups(f"hsi:{{{partition}}}:{stream}")
            if group["name"].decode() in GROUPS
        )
