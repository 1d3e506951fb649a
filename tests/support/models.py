"""The fall-back detector's weights for tests, fetched once a machine by the product's own code.

They lie outside the repository, so a clean checkout finds them again. Without npm or its registry
the tests that need them are skipped, and say so.
"""

import asyncio
import os
from pathlib import Path

import pytest

from domain.errors import TransientError
from inference.downloads import Fetcher
from inference.weights import SSDLITE

PICTURES = Path(__file__).resolve().parents[2] / "hsi" / "demo_pictures"


def cache_folder() -> Path:
    """Return where tests keep what is expensive to fetch."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hsi" / "tests"


@pytest.fixture(scope="session")
def ssdlite_dir() -> Path:
    """Return a models folder in which the fall-back detector (and no other model) lies."""
    folder = cache_folder() / "models"
    try:
        asyncio.run(Fetcher(folder).fetch(SSDLITE))
    except TransientError as error:
        pytest.skip(f"the fall-back detector cannot be had here: {error}")
    return folder


def demo_picture(name: str) -> bytes:
    """Return the bytes of one of the real pictures that the demo plays."""
    return (PICTURES / name).read_bytes()
