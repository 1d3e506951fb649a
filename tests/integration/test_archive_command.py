"""`hsi archive`: what it prints and how it ends, over real servers."""

import asyncio
import json
from pathlib import Path

import pytest
from support.logs import new, received
from typer.testing import CliRunner, Result

from hsi.archive import DAMAGED, app
from streams.log import EventLog


@pytest.fixture
def folder(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "archive"))

    async def fill() -> None:
        log = await EventLog.open(valkey_url)
        await log.append_all([new(received(f"p{k}")) for k in range(50)])
        await log.close()

    asyncio.run(fill())
    return tmp_path / "archive"


def hsi(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_run_verify_status_and_a_damaged_byte(folder: Path) -> None:
    assert "holds no archive yet" in hsi("status").stdout
    assert hsi("verify").exit_code == DAMAGED
    done = hsi("run", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["archived_entries"], told["trimmed_entries"]) == (50, 0)
    assert {bound["held_by"] for bound in told["bounds"] if bound["stream"] == "files"}
    assert "archived 0 entries" in hsi("run").stdout
    (lane,) = json.loads(hsi("status", "--json").stdout)["lanes"]
    assert (lane["stream"], lane["entries"]) == ("files", 50)
    assert "files" in hsi("status").stdout
    whole = hsi("verify")
    assert whole.exit_code == 0
    assert "50 entries, every byte as it was archived" in whole.stdout
    segment = next(folder.rglob("*.zst"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))
    damaged = hsi("verify", "--json")
    assert damaged.exit_code == DAMAGED
    found = json.loads(damaged.stdout)
    assert found["whole"] is False
    assert segment.name in found["problem"]
