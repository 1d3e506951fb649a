"""Which settings take effect in running processes, and which need a restart."""

from typing import Final

HOT: Final = (
    "retention_days",
    "batch_window_seconds",
    "batch_idle_timeout_seconds",
    "detection_confidence_threshold",
    "fast_path_confidence_threshold",
    "fast_path_object_types",
    "gpu_poll_interval_seconds",
    "log_level",
    "candidate_percent",
    "candidate_prompt_percent",
)
"""Fields of Settings that a PATCH of /api/system/config and an edit of data/runtime.env change."""
