"""The exporter's own virtual environment: torch and transformers, made once, beside the product.

It is some gigabytes that only an operator who exports a model needs. Everything but torch is
locked by hash in exporter.lock; torch is pinned by version alone, because its builds differ from
machine to machine.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from domain.errors import PermanentError, TransientError

LOCK: Final = Path(__file__).with_name("exporter.lock")
TORCH: Final = "torch==2.13.0"
_SAID = 1500

Tell = Callable[[str], None]


def exporter_python(folder: Path, tell: Tell) -> Path:
    """Return the Python of an environment below `folder` that can export; make it if it must be.

    Raises TransientError with the installer's last words when the packages cannot be had.
    """
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = hashlib.sha256(LOCK.read_bytes() + TORCH.encode()).hexdigest()[:8]
    home = folder.absolute() / f"exporter-{python_version}-{content}"
    python = home / "bin" / "python"
    try:
        with _alone(folder):
            if not (home / "ready").exists():
                tell(f"making the exporter's environment in {home} (once; torch is large)")
                shutil.rmtree(home, ignore_errors=True)
                _make(home, python)
                (home / "ready").touch()
    except OSError as error:
        raise PermanentError(
            f"the exporter's environment cannot be made in {folder}: {error}; name another folder "
            "with --environment"
        ) from error
    return python


def _make(home: Path, python: Path) -> None:
    _call("python -m venv", sys.executable, "-m", "venv", str(home))
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    _call("pip install -r exporter.lock", *pip, "--require-hashes", "-r", str(LOCK))
    _call(f"pip install {TORCH}", *pip, TORCH)


def _call(what: str, *command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout)[-_SAID:]
        raise TransientError(f"`{what}` failed for the exporter's environment: {said}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second exporter waiting while the first one makes the environment."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".exporter.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
