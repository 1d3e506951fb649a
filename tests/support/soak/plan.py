"""What one run does and when: a pure function of its seed and sizes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Drop = Literal["picture", "slow", "duplicate", "broken"]
Way = Literal["cut", "answers lost", "stalled"]

SERVERS = ("valkey", "postgres")
ROLES = {
    "watch": ("agents", "watch"),
    "detect": ("agents", "detect"),
    "batch": ("agents", "batch"),
    "assess": ("agents", "assess", "notify"),
    "refine": ("agents", "refine"),
    "project": ("agents", "project"),
    "api": ("api",),
    # Takes over what the others leave behind while they are stopped.
    "spare": ("agents", "watch", "detect", "batch", "assess", "refine", "notify", "project"),
}
PAUSED_IN_TURN = ("detect", "batch", "project", "assess", "watch", "spare", "refine")

PAUSE_SECONDS = (11.0, 13.0)
"""Longer than the 8 s after which a silent consumer's entries and leases are somebody else's."""
FULL_SECONDS = 5.0
UNTIL_FULL_SECONDS = 1.5
"""What room the servers' files have left in their last blocks is used up by then."""


@dataclass(frozen=True, slots=True)
class Options:
    """The sizes of one run."""

    seed: int
    files: int = 20_000
    kills: int = 300
    appendfsync: Literal["everysec", "always"] = "everysec"
    gap: tuple[float, float] = (1.0, 3.0)
    """Seconds between two kills, drawn between these."""
    cameras: int = 6
    settle_seconds: float = 240.0
    """How long the house may take to come to rest after the last blow."""

    def rerun(self) -> str:
        """Return the command that does the same again."""
        low, high = self.gap
        return (
            f'make soak ARGS="--seed {self.seed} --files {self.files} --kills {self.kills} '
            f'--appendfsync {self.appendfsync} --gap {low:g} {high:g}"'
        )


@dataclass(frozen=True, slots=True)
class File:
    """One file to drop."""

    at: float
    camera: str
    number: int
    drop: Drop
    copy_of: int | None = None
    """Number of the picture whose bytes a duplicate repeats."""

    @property
    def path(self) -> str:
        """Return where it goes, below the base folder."""
        return f"{self.camera}/{self.number:06}.jpg"


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL one process."""

    at: float
    target: str


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP one process, later SIGCONT."""

    at: float
    target: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the connections to one server on their way."""

    at: float
    target: str
    way: Way
    seconds: float


@dataclass(frozen=True, slots=True)
class Fill:
    """Leave no room on the servers' disk."""

    at: float
    seconds: float = FULL_SECONDS


@dataclass(frozen=True, slots=True)
class Away:
    """Let the detector answer nothing."""

    at: float
    seconds: float


Blow = Kill | Pause | Cut | Fill | Away


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one run does to the house, each list in order of time."""

    files: tuple[File, ...]
    blows: tuple[Blow, ...]
    seconds: float


def plan_of(options: Options) -> Plan:
    """Draw the plan of a seed; the same options give the same plan."""
    draw = random.Random(options.seed)
    times: list[float] = []
    now = 0.0
    for _ in range(options.kills):
        now += draw.uniform(*options.gap)
        times.append(now)
    pauses = tuple(_pauses(draw, now))
    fill = Fill(now * draw.uniform(0.45, 0.6))
    blows: list[Blow] = [*pauses, *_cuts(draw, now), fill]
    blows += _kills(draw, times, pauses, fill)
    # Drawn apart, so that a seed deals the other blows as it always did.
    blows += _aways(random.Random(f"{options.seed} away"), now)
    files = tuple(_files(draw, options, now))
    return Plan(files, tuple(sorted(blows, key=lambda blow: blow.at)), now)


def _pauses(draw: random.Random, end: float) -> Iterator[Pause]:
    at, turn = draw.uniform(1.0, 4.0), 0
    while at < end - 6.0:
        seconds = draw.uniform(*PAUSE_SECONDS)
        yield Pause(at, PAUSED_IN_TURN[turn % len(PAUSED_IN_TURN)], seconds)
        at += seconds + draw.uniform(0.5, 3.0)
        turn += 1


def _cuts(draw: random.Random, end: float) -> Iterator[Cut]:
    ways: tuple[Way, ...] = ("cut", "answers lost", "stalled")
    at, turn = draw.uniform(0.5, 3.0), 0
    while at < end:
        target = SERVERS[draw.random() < 0.3]
        yield Cut(at, target, ways[turn % len(ways)], draw.uniform(0.2, 1.2))
        at += draw.uniform(3.0, 6.0)
        turn += 1


def _aways(draw: random.Random, end: float) -> Iterator[Away]:
    at = draw.uniform(3.0, 6.0)
    while at < end - 8.0:
        seconds = draw.uniform(3.0, 6.0)
        yield Away(at, seconds)
        at += seconds + draw.uniform(6.0, 14.0)


def _kills(
    draw: random.Random, times: list[float], pauses: tuple[Pause, ...], fill: Fill
) -> Iterator[Kill]:
    """Deal every process out once before any comes again; one that is paused waits its turn.

    What dies first on a full disk is Valkey: with `everysec` the log then comes back without what
    was answered, but could not be written.
    """
    deck: list[str] = []
    full, free = fill.at + UNTIL_FULL_SECONDS, fill.at + fill.seconds
    first = next((at for at in times if full <= at < free), None)
    for at in times:
        paused = {p.target for p in pauses if p.at <= at <= p.at + p.seconds + 0.5}
        if not set(deck) - paused:
            deck = [*deck, *draw.sample([*ROLES, *SERVERS], len(ROLES) + len(SERVERS))]
        target = next(name for name in deck if name not in paused)
        if at == first:
            target = "valkey"
        if target in deck:
            deck.remove(target)
        yield Kill(at, target)


def _files(draw: random.Random, options: Options, end: float) -> Iterator[File]:
    pictures: dict[str, list[int]] = {}
    for number in range(options.files):
        camera = f"cam{draw.randrange(options.cameras)}"
        at = end * number / options.files
        earlier = pictures.setdefault(camera, [])
        chance = draw.random()
        if chance < 0.03 and earlier:
            yield File(at, camera, number, "duplicate", draw.choice(earlier))
            continue
        if chance < 0.04:
            yield File(at, camera, number, "broken")
            continue
        earlier.append(number)
        yield File(at, camera, number, "slow" if chance < 0.06 else "picture")
