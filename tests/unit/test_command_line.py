"""`hsi`: every command exists and explains itself, errors are one clear message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hsi.__main__ import COMMANDS, build
from runtime.settings import PROJECT_ROOT, Settings

HEAVY = ("aiohttp", "faust", "psycopg", "pydantic", "redis", "numpy", "onnxruntime", "cv2")


def hsi(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "hsi", *arguments],
        cwd=cwd,
        env={**base, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_exists_and_its_help_has_examples(name: str) -> None:
    result = CliRunner().invoke(build(name), [name, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    if "COMMAND" not in result.output.split("\n")[1]:  # a group's commands have the examples
        assert "Example" in result.output


def test_help_lists_every_command_and_loads_none_of_them(tmp_path: Path) -> None:
    script = (
        "import sys, hsi.__main__ as m\n"
        "sys.argv = ['hsi', '--help']\n"
        "try: m.main()\n"
        f"finally: print([n for n in {HEAVY} if n in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.rstrip().endswith("[]")
    for name, command in COMMANDS.items():
        assert name in result.stdout
        assert command.about in result.stdout


def test_version_says_name_and_version(tmp_path: Path) -> None:
    result = hsi("version", cwd=tmp_path)
    assert result.stdout == f"{Settings().app_name} {Settings().app_version}\n"
    assert result.returncode == 0


def test_wrong_settings_end_with_two_and_one_message(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BATCH_WINDOW_SECONDS=0\nDEBUG=true\n")
    result = hsi("version", cwd=tmp_path, SEVERITY_LOW_MAX="99")
    assert result.returncode == 2
    assert "BATCH_WINDOW_SECONDS=0 (from .env:1): must be a whole number" in result.stderr
    assert "SEVERITY_MEDIUM_MAX" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("migrate",), ["DATABASE_URL"]),
        (("api",), ["REDIS_URL", "DATABASE_URL"]),
        (("agents", "detect"), ["REDIS_URL"]),
        (("agents", "project"), ["REDIS_URL", "DATABASE_URL"]),
    ],
)
def test_a_role_without_its_services_says_which_are_missing(
    tmp_path: Path, arguments: tuple[str, ...], names: list[str]
) -> None:
    result = hsi(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "hsi up" in result.stderr
    for name in names:
        assert name in result.stderr


def test_an_unknown_role_is_refused_with_the_list(tmp_path: Path) -> None:
    result = hsi("agents", "detect", "nonsense", cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1")
    assert result.returncode != 0
    assert "nonsense" in result.stderr
    assert "watch" in result.stderr


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    result = hsi("migrate", cwd=tmp_path, DEBUG="true")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    result = hsi("upp", cwd=tmp_path)
    assert result.returncode == 2
    assert "'up'" in result.stderr
