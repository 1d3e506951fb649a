"""Routes of the ledger: how many files are where, and which."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from api.answers import file_answer
from api.ledger_schemas import (
    AgeCount,
    CameraCount,
    FilesAnswer,
    FilesQuery,
    LedgerAnswer,
    LedgerQuery,
    OldestPending,
)
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from projections.cursor import BadCursorError
from projections.ledger_counts import AGES
from projections.rows import FileFilter, LedgerRow, State, StateCount

routes = Routes("ledger")


@routes.get("/api/ledger", LedgerAnswer)
async def ledger(request: web.Request, query: LedgerQuery) -> web.Response:
    """Answer how many files are in each state, by stage, camera and age."""
    rows = await request.app[SERVICES].queries.ledger(camera_id=query.camera_id)
    return answer(ledger_answer(rows, datetime.now(UTC)))


@routes.get("/api/files", FilesAnswer, problems=["invalid_cursor"])
async def list_files(request: web.Request, query: FilesQuery) -> web.Response:
    """Answer files, the last taken in first."""
    which = FileFilter(state=query.state, camera_id=query.camera_id, reason=query.reason)
    queries = request.app[SERVICES].queries
    try:
        page = await queries.files(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    files = [file_answer(row) for row in page.items]
    return answer(
        FilesAnswer(files=files, count=len(files), limit=query.limit, next_cursor=page.next_cursor)
    )


def ledger_answer(rows: list[LedgerRow], now: datetime) -> LedgerAnswer:
    """Return the counts of one moment, added up in every direction."""
    cameras = sorted({row.camera_id for row in rows})
    states = _states(rows)
    return LedgerAnswer(
        total=sum(states.values()),
        states=states,
        stages=_stages(rows),
        reasons=_reasons(rows),
        cameras=[_camera(camera, rows) for camera in cameras],
        ages=[_age(index, rows) for index in range(len(AGES) + 1)],
        oldest_pending=_oldest(rows, now),
    )


def _states(rows: Iterable[LedgerRow]) -> dict[State, int]:
    counts: Counter[State] = Counter()
    for row in rows:
        counts[row.state] += row.files
    return dict(sorted(counts.items()))


def _stages(rows: Iterable[LedgerRow]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in rows:
        if row.state == "pending":
            counts[row.reason] += row.files
    return dict(sorted(counts.items()))


def _reasons(rows: Iterable[LedgerRow]) -> list[StateCount]:
    counts: Counter[tuple[State, str]] = Counter()
    for row in rows:
        counts[row.state, row.reason] += row.files
    return [
        StateCount(state=state, reason=reason, files=files)
        for (state, reason), files in sorted(counts.items())
    ]


def _camera(camera_id: str, rows: Iterable[LedgerRow]) -> CameraCount:
    states = _states(row for row in rows if row.camera_id == camera_id)
    return CameraCount(camera_id=camera_id, states=states, total=sum(states.values()))


def _age(index: int, rows: Iterable[LedgerRow]) -> AgeCount:
    states = _states(row for row in rows if row.age == index)
    return AgeCount(
        from_seconds=AGES[index - 1] if index else 0,
        to_seconds=AGES[index] if index < len(AGES) else None,
        states=states,
        total=sum(states.values()),
    )


def _oldest(rows: Iterable[LedgerRow], now: datetime) -> OldestPending | None:
    waiting = [row for row in rows if row.state == "pending" and row.oldest_id is not None]
    if not waiting:
        return None
    oldest = min(waiting, key=lambda row: (row.oldest_at, row.oldest_id or ""))
    return OldestPending(
        file_id=oldest.oldest_id or "",
        camera_id=oldest.camera_id,
        stage=oldest.reason,
        received_at=oldest.oldest_at,
        age_seconds=max(0.0, round((now - oldest.oldest_at).total_seconds(), 3)),
    )
