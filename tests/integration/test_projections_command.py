"""`hsi projections` against real servers: status, rebuild, rollback; for people and programs."""

import asyncio
import json

import pytest
from support.histories import PERSON, detected, image, news, rejected
from typer.testing import CliRunner, Result

from hsi.__main__ import build
from hsi.projections import NICENESS
from streams.log import EventLog


@pytest.fixture
def environ(valkey_url: str, database_url: str) -> dict[str, str]:
    """Give the settings of an installation whose log holds something nobody has projected."""

    async def fill() -> None:
        log = await EventLog.open(valkey_url)
        events = [e for n in range(9) for e in (image(n), detected(image(n), PERSON))]
        await log.append_all(news([*events, rejected(50)]))
        await log.close()

    asyncio.run(fill())
    return {"REDIS_URL": valkey_url, "DATABASE_URL": database_url, "COLUMNS": "140"}


@pytest.fixture(autouse=True)
def niced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note what the commands would give way by, instead of slowing the tests that come later."""
    given: list[int] = []
    monkeypatch.setattr("os.nice", given.append)
    return given


def hsi(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(build("projections"), ["projections", *arguments], env=environ)


def test_status_rebuild_and_rollback(environ: dict[str, str], niced: list[int]) -> None:
    told = json.loads(hsi(environ, "status", "--json", "--seconds", "0.1").output)
    ledger = next(each for each in told["projections"] if each["projection"] == "ledger")
    assert (ledger["version"], ledger["kept"], ledger["lag_entries"]) == (1, None, 19)
    assert ledger["lag_seconds"] > 0
    assert sum(lane["behind"] for lane in ledger["checkpoint"]) == 19

    rebuilt = hsi(environ, "rebuild", "all")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert "filling" in rebuilt.output
    assert "as before" in rebuilt.output
    assert niced == [NICENESS]

    back = json.loads(hsi(environ, "rollback", "ledger", "--json").output)
    assert (back["version"], back["replaced"]) == (1, 2)
    assert back["switch_seconds"] < 1
    shown = hsi(environ, "status", "--seconds", "0.1").output
    assert "telemetry" in shown
    told = json.loads(hsi(environ, "status", "--json", "--seconds", "0.1").output)
    ledger = next(each for each in told["projections"] if each["projection"] == "ledger")
    assert (ledger["version"], ledger["kept"], ledger["lag_entries"]) == (1, 2, 0)


def test_a_name_that_is_no_projection_is_refused_with_the_list(environ: dict[str, str]) -> None:
    for arguments in (("rebuild", "nonsense"), ("rollback", "all")):
        result = hsi(environ, *arguments)
        assert result.exit_code == 2
        assert "ledger" in result.output


def test_a_database_without_the_schema_says_what_to_do(
    environ: dict[str, str], empty_database_url: str
) -> None:
    environ["DATABASE_URL"] = empty_database_url
    for arguments in (("status", "--seconds", "0.1"), ("rebuild", "all"), ("rollback", "ledger")):
        result = hsi(environ, *arguments)
        assert result.exit_code != 0
        assert "hsi migrate" in str(result.exception)
