"""`hsi why` and `hsi as-of` as a person runs them beside `hsi up`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from support.installation import Installation, installed
from support.models import demo_picture


@pytest.fixture
def installation(state_folder: Path) -> Iterator[Installation]:
    settings = {"BATCH_IDLE_TIMEOUT_SECONDS": "1", "EMBEDDED_LLM": "false"}
    with installed(state_folder, RTDETR_URL="http://127.0.0.1:9", **settings) as running:
        running.start()
        yield running
        running.stop()


def hsi(*arguments: str) -> str:
    """Run a command of ours and return what it prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hsi", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "160", "CAMERA_TIMEZONE": "UTC"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(installation: Installation, file: Path, words: str) -> bool:
    """Say whether the API has these words to say about a file."""
    try:
        found = installation.get(f"/api/lineage?{urlencode({'of': str(file)})}")
        return words in installation.get(found["links"]["lineage"])["conclusion"]
    except HTTPError:
        return False


def test_why_and_as_of_beside_hsi_up(installation: Installation) -> None:
    """A picture waits for a detector that is away; a broken file is rejected."""
    url = ("--url", installation.base_url)
    waiting = installation.drop("Front Door", "one.jpg", demo_picture("yard-1-01.jpg"))
    broken = installation.drop("Front Door", "two.jpg", b"")
    for file, words in ((waiting, "unhealthy"), (broken, "rejected")):
        installation.wait(lambda f=file, w=words: told(installation, f, w), f"not told: {words}")
    said = hsi("why", str(waiting), *url)
    assert said.startswith("Nothing has been sent about this picture yet because it waits for")
    assert "the detector, which is unhealthy since" in " ".join(said.split())
    assert "received" in said
    rejected = hsi("why", str(broken), *url)
    assert "Nothing was sent about this file because the file was rejected (empty)" in rejected
    lineage = json.loads(hsi("why", str(waiting), *url, "--json"))
    assert lineage["file"]["path"] == "Front Door/one.jpg"
    assert lineage["missing"] == []

    now = datetime.now(UTC).isoformat()
    settings = json.loads(hsi("as-of", now, "settings", *url, "--json"))["settings"]
    assert (settings["batch_idle_timeout_seconds"], settings["detector"]) == (1, "http")
    assert settings["risk_model"] == "none"
    assert "Front Door" in hsi("as-of", now, "cameras", *url)
    assert "rules-1" in hsi("as-of", now, "rules", *url)
