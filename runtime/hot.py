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
)
"""Fields of Settings that `PATCH /api/system/config` changes without a restart."""
