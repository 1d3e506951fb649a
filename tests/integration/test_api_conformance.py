"""schemathesis asks a running API all that its document allows, and much that it does not."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from support.serving import drawn, served, story

CAMERA = "front"
TESTS = Path(__file__).parent.parent
CONFIG = TESTS / "support" / "schemathesis.toml"
SEED = 20251122
MAX_EXAMPLES = 8


@pytest.mark.slow
async def test_the_api_does_what_its_document_says(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    """Run all checks of schemathesis: no 500, nothing undocumented, nothing wrong accepted."""
    async with served(valkey_url, database_url, tmp_path, projecting=True) as api:
        await api.register(CAMERA, "back")
        picture = drawn(640, 480)
        told = [story(CAMERA, number, picture=picture) for number in range(3)]
        for each in told:
            api.picture(each, picture)
            await api.append(*each.events)
        url = str(api.client.make_url("/api/openapi.json"))
        code, said = await _schemathesis(url, tmp_path)
    assert code == 0, said


async def _schemathesis(url: str, folder: Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", url),
        # Who is let in is walked for every route, against this document, in test_api_access.
        *("--checks", "all", "--exclude-checks", "ignored_auth"),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(MAX_EXAMPLES), "--seed", str(SEED), "--continue-on-failure"),
        *("--suppress-health-check", "all", "--request-timeout", "30", "--no-color"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), "SCHEMATHESIS_HOOKS": "support.api_requests"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()
