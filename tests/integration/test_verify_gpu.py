"""`hsi models verify-gpu` as far as that goes without a GPU: commands, their order, its end."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hsi.models import app
from hsi.models.verify_gpu import Step, run


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["verify-gpu", *map(str, arguments)])


def test_the_commands_are_printed_in_their_order(tmp_path: Path) -> None:
    result = verify("./mine", "--work", tmp_path, "--image", "triton:1", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("#")]
    for line, part in zip(
        lines,
        ("nvidia-smi", "export ./mine", "tritonserver", "plan", "load", "bench", "doctor"),
        strict=True,
    ):
        assert part in line
    assert "--model-control-mode=explicit" in lines[2]
    assert f"--volume={tmp_path}/models:/models:ro" in lines[2]
    assert "--image=triton:1 --url=grpc://127.0.0.1:8001" in lines[3]
    assert list(tmp_path.iterdir()) == []


def test_every_step_is_a_command_that_exists() -> None:
    lines = verify("--dry-run").output.splitlines()
    for line in lines:
        if " -m hsi models " not in line:
            continue
        words = line.partition(" -m hsi models ")[2].split()
        told = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"})
        assert told.exit_code == 0
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in told.output, word


def test_without_docker_it_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = verify("--work", tmp_path / "w")
    assert result.exit_code == 1
    assert "docker was not found: this needs a machine with an NVIDIA GPU" in str(result.exception)
    assert not (tmp_path / "w").exists()


def test_the_first_step_that_fails_ends_it_and_the_container_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in *nvidia-smi) exit 9;; esac\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = verify("--work", tmp_path / "w", "--image", "triton:1")
    assert result.exit_code == 1
    assert "step 1 of 7, the GPU is visible in a container, ended with 9" in str(result.exception)
    said = calls.read_text().splitlines()
    assert said == ["run --rm --gpus=all triton:1 nvidia-smi", "rm --force hsi-verify-gpu"]


def test_a_step_is_waited_for_until_its_port_answers() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        run([Step("a server", ("true",), listening.getsockname()[1]), Step("the next", ("true",))])
