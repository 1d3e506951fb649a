"""The labels of events, one row each with all that lists are filtered and sorted by.

A row follows from its event's own row, so it is made anew after every run that changed the event:
the same rows whatever order the streams came in, and nothing to do where nothing changed.
"""

from typing import Final

import msgspec

from domain.events import AssessmentRefined, EventReviewed, RiskAssessed
from projections.read_model import Run

# An event that only a review or the model's word is known of yet has no labels, nor is it listed.
SET_LABELS: Final = """
WITH changed AS (SELECT id FROM json_to_recordset(%(rows)s::json) AS r (id text)),
told AS (
    SELECT e.id, l.label, e.camera_id, e.started_at, e.risk_level, e.reviewed, e.is_fast_path,
        e.risk_score
    FROM changed JOIN events e USING (id),
        LATERAL (SELECT DISTINCT unnest(e.labels) AS label) l
    WHERE e.stage IS NOT NULL),
gone AS (
    DELETE FROM event_labels o USING changed c
    WHERE o.id = c.id
      AND NOT EXISTS (SELECT FROM told t WHERE (t.id, t.label) = (o.id, o.label)))
INSERT INTO event_labels AS o (
    id, label, camera_id, started_at, risk_level, reviewed, is_fast_path, risk_score)
SELECT id, label, camera_id, started_at, risk_level, reviewed, is_fast_path, risk_score FROM told
ON CONFLICT (id, label) DO UPDATE SET
    started_at = EXCLUDED.started_at,
    risk_level = EXCLUDED.risk_level, reviewed = EXCLUDED.reviewed,
    is_fast_path = EXCLUDED.is_fast_path, risk_score = EXCLUDED.risk_score
WHERE (o.started_at, o.risk_level, o.reviewed, o.is_fast_path, o.risk_score) IS DISTINCT FROM (
    EXCLUDED.started_at, EXCLUDED.risk_level, EXCLUDED.reviewed, EXCLUDED.is_fast_path,
    EXCLUDED.risk_score)
"""


class Changed(msgspec.Struct, frozen=True):
    """An event of which a run says something that a list shows."""

    id: str


def changed(run: Run) -> list[Changed]:
    """Return the events whose labels are to be made anew after a run."""
    ids = [
        *(event.event_id for event, _ in run.of(RiskAssessed)),
        *(event.event_id for event, _ in run.of(AssessmentRefined)),
        *(event.event_id for event, _ in run.of(EventReviewed)),
    ]
    return [Changed(id) for id in dict.fromkeys(ids)]
