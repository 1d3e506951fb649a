"""A log cut into runs as readers of many lanes may get it."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from streams.envelope import Envelope


def interleaved(random: Random, log: Sequence[Envelope]) -> list[list[Envelope]]:
    """Cut the log into runs: lanes mixed at random, each lane in order, some runs again."""
    lanes: dict[tuple[str, int], list[Envelope]] = defaultdict(list)
    for envelope in log:
        lanes[envelope.stream, envelope.partition].append(envelope)
    queues = [list(reversed(lane)) for lane in lanes.values()]
    runs: list[list[Envelope]] = [[]]
    while queues := [queue for queue in queues if queue]:
        queue = random.choice(queues)
        for _ in range(min(len(queue), random.randint(1, 4))):
            runs[-1].append(queue.pop())
        if random.random() < 0.3:
            if random.random() < 0.3:
                runs.append(random.choice(runs))
            runs.append([])
    return runs + random.choices(runs, k=4)
