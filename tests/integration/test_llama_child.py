"""The embedded server as a process: how it starts, how it refuses, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.llama import (
    KEY,
    child_command,
    free_port,
    llama_child,
    smollm2_gguf,
    wait_until_healthy,
)

from inference.llama_child import EXIT_KEY, EXIT_LOAD, EXIT_MODEL, EXIT_PORT, READ_AHEAD
from inference.llama_wire import chat_request
from inference.prompts import load_prompt


def run(
    *arguments: str, model: Path, port: int | None = None
) -> "subprocess.CompletedProcess[str]":
    command = child_command(model, port or free_port(), *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def gguf(folder: Path, content: bytes) -> Path:
    file = folder / "broken.gguf"
    file.write_bytes(content)
    return file


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    done = run(model=tmp_path / "none.gguf")
    assert done.returncode == EXIT_MODEL
    assert f"cannot read the model {tmp_path}/none.gguf" in done.stderr
    assert "hsi models fetch" in done.stderr


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    done = run(model=gguf(tmp_path, b"<html>not found</html>"))
    assert done.returncode == EXIT_MODEL
    assert "is not a GGUF file" in done.stderr


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    with smollm2_gguf().open("rb") as whole:
        damaged = gguf(tmp_path, whole.read(1_000_000))
    done = run(model=damaged)
    assert done.returncode == EXIT_LOAD
    assert f"cannot load {damaged}" in done.stderr


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(model=smollm2_gguf(), port=port)
    assert done.returncode == EXIT_PORT
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_missing_or_empty_key_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    done = run("--api-key-file", str(file), model=smollm2_gguf())
    assert done.returncode == EXIT_KEY
    assert str(file) in done.stderr


def test_a_number_out_of_range_is_refused(tmp_path: Path) -> None:
    done = run("--context", "1", model=tmp_path / "any.gguf")
    assert done.returncode == 2
    assert "--context 1 is outside 512 to 1048576" in done.stderr


def test_it_serves_on_loopback_with_metrics_behind_its_key(tmp_path: Path) -> None:
    with llama_child(tmp_path) as url:
        request = urllib.request.Request(
            f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert b"llamacpp:prompt_tokens_total" in answer.read()
        port = int(url.rpartition(":")[2])
        (child,) = [
            process
            for process in psutil.Process().children()
            if any(
                c.status == "LISTEN" and c.laddr.port == port for c in process.net_connections()
            )
        ]
        listening = [c for c in child.net_connections() if c.status == "LISTEN"]
        assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
        assert child.environ()["OMP_WAIT_POLICY"] == "PASSIVE"
        assert KEY not in " ".join(child.cmdline())
    # On leaving, the fixture asserts that SIGTERM ended it with 0.


def test_the_prompt_is_read_ahead_of_the_first_question(tmp_path: Path) -> None:
    with llama_child(tmp_path, "--warm-up") as url:
        log = tmp_path / "llama.log"
        deadline = time.monotonic() + 60
        while READ_AHEAD not in log.read_text(errors="replace"):
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.05)
        assert f"not {READ_AHEAD}" not in log.read_text(errors="replace")
        # The first questions: the static part costs them nothing.
        for camera in ("A", "B"):
            cached, whole = first_words(url, camera)
            assert whole - cached < 60


def first_words(url: str, camera: str) -> tuple[int, int]:
    """Ask for one token; return the cached and all tokens of the question."""
    messages = load_prompt().conversation(f'Camera: "{camera}"\nSeen: nothing')
    body = chat_request(messages) | {"max_tokens": 1}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    path = f"{url}/v1/chat/completions"
    request = urllib.request.Request(path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        usage = json.load(answer)["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


def test_it_ends_with_zero_while_it_still_loads(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as output:
        child = subprocess.Popen(child_command(smollm2_gguf(), port), stdout=output, stderr=output)
        while child.poll() is None:  # it listens before it loads
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    # given a parent that starts the server, says its pid, and waits
    port = free_port()
    command = child_command(smollm2_gguf(), port)
    code = (
        "import subprocess as s, sys; child = s.Popen(sys.argv[1:], stderr=s.DEVNULL);"
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait_until_healthy(f"http://127.0.0.1:{port}", parent, tmp_path / "no-log")
        # when the parent is killed
        os.kill(parent.pid, signal.SIGKILL)
    # then the child does not survive it
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
