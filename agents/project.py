"""Project: all events → read models, one projector each, side by side in one process."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from projections.access import Access
from projections.cameras import Cameras
from projections.checkpoints import AheadOfLogError
from projections.collecting import collecting_rarely
from projections.database import Pool, open_pool
from projections.detections import Detections
from projections.enrichment import Enrichment
from projections.ledger import Ledger
from projections.making_good import make_good
from projections.metrics import Metrics
from projections.positions import Positions
from projections.prompt_trials import PromptTrials
from projections.read_model import ReadModel
from projections.rebuild import POOL
from projections.runner import Projector
from projections.telemetry import Telemetry
from projections.timeline import Timeline
from projections.trials import Trials
from runtime.tasks import end
from streams.envelope import Envelope
from streams.history import History
from streams.log import EventLog

logger = logging.getLogger(__name__)

OnApplied = Callable[[Sequence[Envelope]], None]


def read_models() -> tuple[ReadModel, ...]:
    """Return every read model of this version."""
    return (
        Cameras(),
        Ledger(),
        Detections(),
        Timeline(),
        Telemetry(),
        Positions(),
        Enrichment(),
        Trials(),
        PromptTrials(),
        Access(),
        Metrics(),
    )


class Project:
    """Keeps every read model up to the log; a read model that fails ends the others, too."""

    def __init__(
        self,
        log: EventLog,
        database_url: str,
        models: Sequence[ReadModel] | None = None,
        *,
        archive_dir: Path | None = None,
        on_applied: OnApplied | None = None,
    ) -> None:
        """`on_applied` is told every run of the read model that events are read from."""
        self._on_applied = on_applied
        self._log = log
        self._past = History(log, archive_dir)
        self._database_url = database_url
        self._models = read_models() if models is None else tuple(models)

    async def run(self, stop: asyncio.Event) -> None:
        """Apply the log until `stop` is set; raises the error of the projector that failed.

        Tables that are ahead of a log which lost its end are made anew first.
        """
        size = max(POOL, len(self._models))
        pool = await open_pool(self._database_url, name="project", max_size=size, rebuildable=True)
        try:
            while not stop.is_set():
                try:
                    await self._follow(pool, stop)
                except AheadOfLogError as error:
                    logger.error(
                        "%s. This one does so now; lists and pages stay as they are until then",
                        error,
                        extra={"action": "making_good"},
                    )
                    await make_good(self._log, self._past, pool, self._models, stop)
        finally:
            await pool.close()

    async def _follow(self, pool: Pool, stop: asyncio.Event) -> None:
        ending = asyncio.Event()
        stopping = asyncio.create_task(_hand_on(stop, ending), name="project stop")
        tasks = [
            asyncio.create_task(self._projector(pool, model).run(ending), name=model.name)
            for model in self._models
        ]
        try:
            with collecting_rarely():
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                ending.set()  # One has ended: asked to, or by an error. The others finish.
                await asyncio.wait(tasks)
            _raise_first(tasks)
        finally:
            await end(stopping, *tasks)

    def _projector(self, pool: Pool, model: ReadModel) -> Projector:
        on_applied = self._on_applied if model.name == Timeline.name else None
        return Projector(self._log, pool, model, on_applied=on_applied)


async def _hand_on(stop: asyncio.Event, ending: asyncio.Event) -> None:
    await stop.wait()
    ending.set()


def _raise_first(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Say which projectors failed, and raise the first error; one that can be made good last."""
    errors = {task.get_name(): task.exception() for task in tasks}
    failed = {name: error for name, error in errors.items() if error is not None}
    for name, error in failed.items():
        if isinstance(error, AheadOfLogError):
            continue  # Nothing stops for good; `run` tells.
        logger.error(
            "the read model %s stops: %s", name, error, extra={"action": "projection_stopped"}
        )
    for error in sorted(failed.values(), key=lambda each: isinstance(each, AheadOfLogError)):
        raise error
