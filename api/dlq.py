"""Routes of dead letters: grouped by cause, listed, redriven, discarded.

The two queues of the earlier interface stand for our consumer groups: `detection_queue` for what
`detect` parked, `analysis_queue` for what every later stage parked. The groups' own names and
`all` are understood as well.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from aiohttp import web
from msgspec.structs import asdict

from api.access import actor_of
from api.ledger_schemas import (
    DeadLetterDetail,
    DeadLetterJob,
    DeadLetterJobs,
    DeadLettersQuery,
    DecidedAnswer,
    DecideQuery,
    DlqStatsAnswer,
    RequeueQuery,
    Selection,
)
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from domain.errors import TransientError
from domain.events import EntryParked
from projections.cursor import BadCursorError
from projections.rows import DeadLetterFilter, DeadLetterGroup, DeadLetterRow
from streams.envelope import Position
from streams.names import STREAM_OF
from streams.redrive import BadDeadLetterIdError, DeadLetterId, DeadLetters, Decided

DETECTION: Final = ("detect",)
CONFIRM_ABOVE: Final = 100
"""A request about more entries than this needs `confirm=true`."""

MOST_AT_ONCE: Final = 10_000
"""Entries that one request handles at most."""

MOST_SECONDS: Final = 20.0
"""How long one request goes on; what is left is said."""

SHOWN_SECONDS: Final = 5.0
"""How long a request waits for the read model to show what it did."""

Action = Literal["redrive", "discard"]

routes = Routes("dead letters")


def groups_of(queue: str) -> list[str] | None:
    """Return the consumer groups that a queue stands for, None for all of them."""
    name = queue.removeprefix("dlq:")
    analysis = [group for group in STREAM_OF if group not in DETECTION]
    known = {"all": None, "detection_queue": list(DETECTION), "analysis_queue": analysis}
    if name in known:
        return known[name]
    if name in STREAM_OF:
        return [name]
    allowed = ", ".join([*known, *STREAM_OF])
    raise ProblemError("queue_not_found", f"there is no queue {queue[:80]!r}; give {allowed}")


def queue_of(group: str) -> str:
    """Return the queue of the earlier interface that a group's entries belong to."""
    return "dlq:detection_queue" if group in DETECTION else "dlq:analysis_queue"


@routes.get("/api/dlq/stats", DlqStatsAnswer)
async def dlq_stats(request: web.Request) -> web.Response:
    """Answer how many parked entries there are, by stage, cause and versions."""
    groups = await request.app[SERVICES].queries.dead_letter_groups(DeadLetterFilter())
    total = sum(group.entries for group in groups)
    detection = sum(group.entries for group in groups if group.group_name in DETECTION)
    return answer(
        DlqStatsAnswer(
            detection_queue_count=detection,
            analysis_queue_count=total - detection,
            total_count=total,
            groups=groups,
        )
    )


@routes.get(
    "/api/dlq/jobs/{queue}", DeadLetterJobs, problems=["queue_not_found", "invalid_cursor"]
)
async def dlq_jobs(request: web.Request, query: DeadLettersQuery) -> web.Response:
    """Answer parked entries, oldest first."""
    which = _filter(request, query.cause, query.camera_id)
    queries = request.app[SERVICES].queries
    try:
        page = await queries.dead_letters(
            which, limit=query.limit, start=query.start, after=query.cursor
        )
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    jobs = [_job(row) for row in page.items]
    return answer(
        DeadLetterJobs(jobs=jobs, count=len(jobs), limit=query.limit, next_cursor=page.next_cursor)
    )


@routes.get("/api/dlq/entries/{id}", DeadLetterDetail, problems=["dead_letter_not_found"])
async def dlq_entry(request: web.Request) -> web.Response:
    """Answer one parked entry with its payload, also one that was decided about."""
    wanted = path_id(request, "dead_letter_not_found")
    services = request.app[SERVICES]
    row = await services.queries.dead_letter(wanted)
    if row is None:
        raise ProblemError("dead_letter_not_found", f"there is no parked entry {wanted!r}")
    found = await DeadLetters(services.log).find(DeadLetterId.parse(wanted))
    event = found.event if found else None
    parked = event if isinstance(event, EntryParked) else None
    payload, said = (parked.payload, parked.answer) if parked else (None, None)
    return answer(DeadLetterDetail(**asdict(_job(row)), original_job=payload, answer=said))


@routes.post(
    "/api/dlq/requeue/{queue}",
    DecidedAnswer,
    problems=["queue_not_found", "dead_letter_not_found", "confirmation_needed"],
)
async def requeue(
    request: web.Request, query: RequeueQuery, body: Selection | None
) -> web.Response:
    """Redrive the entries that the body names, or without a body the oldest one."""
    selected = None if body is None else body.ids
    options = _Options("redrive", query.dry_run, query.confirm, query.rate, actor_of(request))
    return await _decide(request, _filter(request), options, selected, oldest_only=True)


@routes.post(
    "/api/dlq/requeue-all/{queue}",
    DecidedAnswer,
    problems=["queue_not_found", "dead_letter_not_found", "confirmation_needed"],
)
async def requeue_all(request: web.Request, query: DecideQuery) -> web.Response:
    """Redrive every entry of a queue, or those of one cause or camera."""
    return await _decide_all(request, query, "redrive")


@routes.delete(
    "/api/dlq/{queue:(?!stats$)[^/]+}",
    DecidedAnswer,
    problems=["queue_not_found", "dead_letter_not_found", "confirmation_needed"],
)
async def discard(request: web.Request, query: DecideQuery) -> web.Response:
    """Discard every entry of a queue, or those of one cause or camera, or those named."""
    return await _decide_all(request, query, "discard")


async def _decide_all(request: web.Request, wanted: DecideQuery, action: Action) -> web.Response:
    which = _filter(request, wanted.cause, wanted.camera_id)
    options = _Options(action, wanted.dry_run, wanted.confirm, wanted.rate, actor_of(request))
    selected = wanted.ids.split(",") if wanted.ids else None
    return await _decide(request, which, options, selected)


@dataclass(frozen=True, slots=True)
class _Options:
    action: Action
    dry_run: bool
    confirm: bool
    rate: float
    actor: str


async def _decide(
    request: web.Request,
    which: DeadLetterFilter,
    options: _Options,
    named: list[str] | None,
    *,
    oldest_only: bool = False,
) -> web.Response:
    services = request.app[SERVICES]
    groups = await services.queries.dead_letter_groups(which)
    if named is None:
        there = sum(group.entries for group in groups)
        total = min(there, 1) if oldest_only else there
        page = await services.queries.dead_letters(which, limit=min(total, MOST_AT_ONCE) or 1)
        ids = [DeadLetterId.parse(row.id) for row in page.items]
    else:
        ids = await _named(services, which, named)
        total = len(ids)
    if options.dry_run:
        return answer(_answer(options, Counter(), total, 0, groups))
    if total > CONFIRM_ABOVE and not options.confirm:
        raise ProblemError(
            "confirmation_needed",
            f"this would {options.action} {total} entries: repeat with confirm=true, or look "
            "first with dry_run=true",
        )
    verdicts, done = await _run(services, ids, options)
    return answer(_answer(options, verdicts, total, total - done, groups))


async def _named(
    services: ApiServices, which: DeadLetterFilter, named: list[str]
) -> list[DeadLetterId]:
    """Return the ids that were named; one that is unknown or of another queue is an error."""
    ids = []
    for text in dict.fromkeys(named):
        try:
            ids.append(DeadLetterId.parse(text))
        except BadDeadLetterIdError as error:
            raise ProblemError("dead_letter_not_found", str(error)) from error
        row = await services.queries.dead_letter(text)
        if row is None or (which.groups is not None and row.group_name not in which.groups):
            raise ProblemError(
                "dead_letter_not_found", f"there is no parked entry {text!r} in this queue"
            )
    return ids


async def _run(
    services: ApiServices, ids: list[DeadLetterId], options: _Options
) -> tuple[Counter[str], int]:
    """Decide one by one at the wanted rate; answer the verdicts and how many were reached."""
    letters = DeadLetters(services.log)
    by = letters.redrive if options.action == "redrive" else letters.discard
    decide: Callable[[DeadLetterId], Awaitable[Decided]] = partial(by, actor=options.actor)
    verdicts: Counter[str] = Counter()
    last: dict[int, Position] = {}
    began = time.monotonic()
    for done, wanted in enumerate(ids):
        due = began + done / options.rate
        if (now := time.monotonic()) - began > MOST_SECONDS or due - began > MOST_SECONDS:
            break
        if due > now:
            await asyncio.sleep(due - now)
        decided = await decide(wanted)
        verdicts[decided.verdict] += 1
        if decided.position is not None:
            last[wanted.partition] = decided.position
    for partition, position in last.items():
        await _shown(services, partition, position)
    return verdicts, verdicts.total()


async def _shown(services: ApiServices, partition: int, position: Position) -> None:
    """Wait until the ledger shows what was decided; it stands in the log in any case."""
    try:
        await services.queries.wait_for(
            "ledger", EntryParked.STREAM, partition, position, SHOWN_SECONDS
        )
    except TransientError:
        return


def _answer(
    options: _Options,
    verdicts: Counter[str],
    selected: int,
    remaining: int,
    groups: list[DeadLetterGroup],
) -> DecidedAnswer:
    count = verdicts["redriven"] + verdicts["discarded"]
    skipped = verdicts["gone"] + verdicts["pending"]
    done = {"redrive": "redriven", "discard": "discarded"}[options.action]
    message = f"{count} of {selected} entries {done}"
    if options.dry_run:
        message = f"{selected} entries would be {done}"
    elif remaining:
        message += f"; {remaining} are left, ask again"
    return DecidedAnswer(
        success=not remaining and not skipped,
        message=message,
        action=options.action,
        dry_run=options.dry_run,
        selected=selected,
        count=count,
        already=verdicts["already"],
        skipped=skipped,
        remaining=remaining,
        groups=groups,
    )


def _filter(
    request: web.Request, cause: str | None = None, camera_id: str | None = None
) -> DeadLetterFilter:
    groups = groups_of(request.match_info["queue"])
    return DeadLetterFilter(groups=groups, cause=cause, camera_id=camera_id)


def _job(row: DeadLetterRow) -> DeadLetterJob:
    links = {"self": f"/api/dlq/entries/{row.id}"}
    if row.file_id is not None:
        links["file"] = f"/api/files/{row.file_id}"
    if row.picture_id is not None:
        links["image"] = f"/api/pictures/{row.picture_id}/image"
    return DeadLetterJob(
        **asdict(row),
        queue_name=queue_of(row.group_name),
        error_type=row.cause,
        attempt_count=row.attempts,
        links=links,
    )
