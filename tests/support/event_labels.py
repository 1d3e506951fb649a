"""What the table of labels says beside its events: nothing, whatever was applied in what order."""

from typing import Final

_COLUMNS: Final = "camera_id, started_at, risk_level, reviewed, is_fast_path, risk_score"
_TOLD: Final = f"SELECT id, label, {_COLUMNS} FROM event_labels"
_MEANT: Final = f"SELECT id, unnest(labels), {_COLUMNS} FROM events WHERE stage IS NOT NULL"

LABELS_THAT_DIFFER: Final = f"({_TOLD} EXCEPT {_MEANT}) UNION ALL ({_MEANT} EXCEPT {_TOLD})"
"""Rows that are in one of both only."""
