"""Sorts files of lines that may be larger than memory: sorted runs on disk, then merged."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

RUN_BYTES: Final = 4 * 1024 * 1024
"""How much is sorted in memory at once."""
FAN_IN: Final = 64
"""Runs merged at once, each of them an open file."""

SortKey = Callable[[bytes], Any]


def sort_lines(
    lines: Iterable[bytes], target: Path, key: SortKey, *, run_bytes: int = RUN_BYTES
) -> None:
    """Write lines (given without their ends) to `target` by their keys; equal ones keep order."""
    runs = [
        _stored(target, number, sorted(run, key=key))
        for number, run in enumerate(_runs(lines, run_bytes))
    ]
    made = len(runs)
    while len(runs) > FAN_IN:
        merged = []
        for start in range(0, len(runs), FAN_IN):
            merged.append(_merged(runs[start : start + FAN_IN], _name(target, made), key))
            made += 1
        runs = merged
    _merged(runs, target, key)


def _runs(lines: Iterable[bytes], run_bytes: int) -> Iterator[list[bytes]]:
    run: list[bytes] = []
    size = 0
    for line in lines:
        run.append(line)
        size += len(line)
        if size >= run_bytes:
            yield run
            run, size = [], 0
    if run:
        yield run


def _name(target: Path, number: int) -> Path:
    return target.with_name(f"{target.name}.run-{number}")


def _stored(target: Path, number: int, lines: Iterable[bytes]) -> Path:
    path = _name(target, number)
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
    return path


def _merged(runs: Sequence[Path], target: Path, key: SortKey) -> Path:
    """Merge sorted runs into `target` and remove them."""
    with ExitStack() as open_files, target.open("wb") as out:
        files = [open_files.enter_context(run.open("rb")) for run in runs]
        # heapq.merge is stable: of equal lines those of the earlier run come first.
        lines: Iterator[bytes] = heapq.merge(*files, key=lambda line: key(line[:-1]))
        out.writelines(lines)
    for run in runs:
        run.unlink()
    return target
