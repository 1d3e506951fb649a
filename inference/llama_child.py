"""The embedded language model: llama.cpp's own HTTP server in a child process of ours.

`python -m inference.llama_child --model FILE --port N` serves on 127.0.0.1 only, dies with its
parent, and ends with 0 on SIGTERM. While it loads, connections are refused or answered 503.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final, NoReturn

from inference.llama_warm_up import warm_up

HOST: Final = "127.0.0.1"
EXIT_MODEL: Final = 3
"""The model file is missing, unreadable or not a GGUF file."""
EXIT_PORT: Final = 4
"""The port is taken."""
EXIT_LIBRARY: Final = 5
"""xllamacpp cannot be imported here."""
EXIT_LOAD: Final = 6
"""llama.cpp could not load the model (too little memory, damaged or unsupported file)."""
EXIT_KEY: Final = 7
"""The API key file is missing or empty."""

READ_AHEAD: Final = "prompt read ahead"
"""Said on stderr once the warm-up is over."""

_PR_SET_PDEATHSIG: Final = 1
_GGUF_MAGIC: Final = b"GGUF"
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_FAILED_SIGNAL: Final = signal.SIGUSR1


@dataclass(frozen=True, slots=True)
class Options:
    """What the server is started with."""

    model: Path
    port: int
    api_key_file: Path | None
    parallel: int
    context: int
    threads: int
    warm_up: bool

    @property
    def name(self) -> str:
        """Return what clients are told: fetched weights lie in `<name>/model.gguf`."""
        stem = self.model.stem
        return self.model.absolute().parent.name if stem == "model" else stem


class ChildError(Exception):
    """The server cannot start; `code` is the exit status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; returns the exit status."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    _calm_openmp()
    _die_with_parent()
    # Blocked before any thread exists, so that only the sigwait below ever sees them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP_SIGNALS, _FAILED_SIGNAL})
    try:
        _check_model(options.model)
        key = _read_key(options.api_key_file)
        _check_port(options.port)
        return _serve(options, key)
    except ChildError as error:
        print(f"llama_child: {error}", file=sys.stderr)  # noqa: T201 - this process's only voice
        return error.code


def _parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m inference.llama_child", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--api-key-file", type=Path, help="file whose first line is the API key")
    parser.add_argument("--parallel", type=int, default=2, help="requests answered at once")
    parser.add_argument("--context", type=int, default=8192, help="tokens, shared by all requests")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--warm-up", action="store_true", help="read the risk prompt ahead of the first question"
    )
    found = parser.parse_args(arguments)
    limits = {"port": (1, 65_535), "parallel": (1, 64), "threads": (1, 1024)}
    limits["context"] = (512, 1_048_576)
    for name, (low, high) in limits.items():
        if not low <= getattr(found, name) <= high:
            parser.error(f"--{name} {getattr(found, name)} is outside {low} to {high}")
    return Options(
        model=found.model,
        port=found.port,
        api_key_file=found.api_key_file,
        parallel=found.parallel,
        context=found.context,
        threads=found.threads,
        warm_up=found.warm_up,
    )


def _calm_openmp() -> None:
    """Start again with OMP_WAIT_POLICY=PASSIVE unless it is set: spinning starves busy cores."""
    if os.environ.get("OMP_WAIT_POLICY"):
        return
    # The OpenMP runtime reads it when it is loaded, which the environment at exec time decides.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves again


def _die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew of our wish
        sys.exit(0)


def _check_model(model: Path) -> None:
    try:
        with model.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        message = (
            f"cannot read the model {model}: {error.strerror}; fetch it with `hsi models fetch`"
        )
        raise ChildError(EXIT_MODEL, message) from error
    if magic != _GGUF_MAGIC:
        message = f"{model} is not a GGUF file; fetch it again with `hsi models fetch`"
        raise ChildError(EXIT_MODEL, message)


def _read_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ChildError(EXIT_KEY, f"cannot read the API key file {file}: {error}") from error
    if not key:
        raise ChildError(
            EXIT_KEY, f"the API key file {file} is empty; put a key on its first line"
        )
    return key.splitlines()[0]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As the server itself does it: connections still in TIME_WAIT don't make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            message = f"cannot listen on {HOST}:{port}: {error.strerror}; choose another port"
            raise ChildError(EXIT_PORT, message) from error


def _serve(options: Options, key: str | None) -> int:
    """Load and serve in a thread of its own, so that a signal ends us even while it loads."""
    failures: list[ChildError] = []
    threading.Thread(target=_run, args=(options, key, failures), name="llama", daemon=True).start()
    signal.sigwait({*_STOP_SIGNALS, _FAILED_SIGNAL})
    if failures:
        raise failures[0]
    # The server keeps nothing on disk; ending at once beats waiting for a reply nobody reads.
    _leave(0)


def _run(options: Options, key: str | None, failures: list[ChildError]) -> None:
    try:
        server = _start(options, key)  # held here: it stops when it is collected
    except ChildError as error:
        failures.append(error)
        os.kill(os.getpid(), _FAILED_SIGNAL)
        return
    if options.warm_up:
        _warm_up(options.port, key)
    while server:
        signal.pause()


def _start(options: Options, key: str | None) -> object:
    try:
        import xllamacpp  # after OMP_WAIT_POLICY is set
    except ImportError as error:
        message = f"xllamacpp does not load here ({error}); set EMBEDDED_LLM=off or NEMOTRON_URL"
        raise ChildError(EXIT_LIBRARY, message) from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(options.model)
    parameters.model_alias = {options.name}
    parameters.hostnames = [HOST]
    parameters.port = options.port
    parameters.api_keys = [key] if key else []
    parameters.n_parallel = options.parallel
    parameters.n_ctx = options.context
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.endpoint_metrics = True
    parameters.enable_reasoning = 0
    parameters.ui = False
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        _check_port(options.port)  # taken since we looked?
        message = f"llama.cpp cannot load {options.model}: {error}; is there enough free memory?"
        raise ChildError(EXIT_LOAD, message) from error


def _warm_up(port: int, key: str | None) -> None:
    try:
        seconds = warm_up(HOST, port, key)
    except (OSError, HTTPException) as error:
        # Questions can be asked all the same; the first will take longer.
        said = f"llama_child: not {READ_AHEAD}: {error}"
    else:
        said = f"llama_child: {READ_AHEAD} in {seconds:.1f} s"
    print(said, file=sys.stderr, flush=True)  # noqa: T201 - this process's only voice


def _leave(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
