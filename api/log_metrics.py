"""What the tables say of the log, as metrics: the same from every API process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import Exemplar, Metric

from api.metric_labels import bounded
from api.metric_names import counter, gauge, histogram
from domain.durations import BOUNDS_MS
from projections.metric_queries import (
    CheckpointFigure,
    CounterFigure,
    DurationFigure,
    ParkedFigure,
)
from streams.envelope import START, Position

_COUNTERS: Final = {
    "entries": "hsi_log_entries_total",
    "closed": "hsi_batches_closed_total",
    "assessed": "hsi_events_assessed_total",
    "scene_changed": "hsi_scene_changes_total",
    "parked": "hsi_entries_parked_total",
    "redriven": "hsi_entries_redriven_total",
    "discarded": "hsi_entries_discarded_total",
}
"""Family of counters → its metric."""

_BOUNDS: Final = (*(str(float(ms / 1000)) for ms in BOUNDS_MS), "+Inf")

Ends = Mapping[tuple[str, int], Position]


def counter_metrics(counters: Sequence[CounterFigure]) -> Iterator[Metric]:
    """Give the counters, each family's greatest first where there are too many."""
    rows = sorted(counters, key=lambda row: (-row.value, row.label))
    for wanted, name in _COUNTERS.items():
        family = counter(name)
        of_family = [row for row in rows if row.family == wanted]
        for label, found in bounded(of_family, lambda row: row.label):
            family.add_metric([label], sum(row.value for row in found))
        yield family


def duration_metrics(durations: Sequence[DurationFigure]) -> Iterator[Metric]:
    """Give how long the steps of each stage took, with an example in each bucket."""
    family = histogram("hsi_stage_duration_seconds")
    for stage, rows in bounded(durations, lambda row: row.stage):
        by_bucket = {row.bucket: row for row in rows}
        total = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for index, bound in enumerate(_BOUNDS):
            row = by_bucket.get(index)
            if row is None:
                buckets.append((bound, float(total)))
                continue
            total += row.entries
            example = _example(row)
            told = (bound, float(total))
            buckets.append(told if example is None else (*told, example))
        family.add_metric([stage], buckets, sum(row.total_ms for row in rows) / 1000)
    yield family


def _example(row: DurationFigure) -> Exemplar | None:
    if not row.example_trace:
        return None
    labels = {"trace_id": row.example_trace}
    return Exemplar(labels, row.example_ms / 1000, row.example_at / 1000)


def parked_metrics(parked: Sequence[ParkedFigure], stages: Sequence[str]) -> Iterator[Metric]:
    """Give what is parked, by stage (0 where nothing is) and by the kind of error."""
    family = gauge("hsi_parked_entries")
    counts = dict.fromkeys(stages, 0)
    for stage, rows in bounded(parked, lambda row: row.stage):
        counts[stage] = counts.get(stage, 0) + sum(row.entries for row in rows)
    for stage, count in counts.items():
        family.add_metric([stage], count)
    yield family
    causes = gauge("hsi_parked_cause_entries")
    for _, rows in bounded(parked, lambda row: f"{row.stage} {row.cause}"):
        known = len({(row.stage, row.cause) for row in rows}) == 1
        labels = [rows[0].stage, rows[0].cause] if known else ["other", "other"]
        causes.add_metric(labels, sum(row.entries for row in rows))
    yield causes


def lag_metrics(checkpoints: Sequence[CheckpointFigure], ends: Ends) -> Iterator[Metric]:
    """Give how much log time lies between each read model and the log's end."""
    family = gauge("hsi_projection_lag_seconds")
    for projection, rows in bounded(checkpoints, lambda row: row.projection):
        places = {row.lane: row.position for row in rows}
        family.add_metric([projection], lag_seconds(places, ends))
    yield family


def lag_seconds(places: Mapping[tuple[str, int], Position], ends: Ends) -> float:
    """Return how far the latest lane is behind, by the log's own clock."""
    lags = [
        end.ms - place.ms
        for lane, place in places.items()
        if (end := ends.get(lane, START)) > place
    ]
    return max(lags, default=0) / 1000
