"""Says that a process of agents answers: the supervisor waits for it."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def say_ready(names: Sequence[str]) -> None:
    """Create the file that HSI_READY_FILE names."""
    logger.info("running: %s", ", ".join(names))
    if target := os.environ.get("HSI_READY_FILE"):
        path = Path(target)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps({"role": "+".join(names), "pid": os.getpid()}))
        draft.replace(path)
