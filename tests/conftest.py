"""Fixtures that every test may ask for; the servers start only when one does."""

import pytest

pytest_plugins = [
    "support.detect_process",
    "support.models",
    "support.servers",
    "support.triton",
    "support.exporting",
    "support.web_tools",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that no worker begins a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    slow |= {item.path for item in items if item.path.parent.name in ("faults", "end_to_end")}
    items.sort(key=lambda item: item.path not in slow)
