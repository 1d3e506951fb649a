"""No file of the project names a package registry: which one is used is the machine's choice."""

import subprocess
from pathlib import Path

import pytest

from runtime.settings import PROJECT_ROOT

# Put together from parts so that this file itself passes.
HOSTS = tuple(
    ".".join(parts).encode()
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("npmmirror", "com"),
        ("static", "crates", "io"),
        ("index", "crates", "io"),
        ("proxy", "golang", "org"),
        ("rubygems", "org"),
    )
)
TOO_LARGE = 4 << 20


def files() -> list[Path]:
    """Return every file that is or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so there is no list of its files")
    return [PROJECT_ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_names_a_package_registry() -> None:
    found = [
        f"{path.relative_to(PROJECT_ROOT)}: {host.decode()}"
        for path in files()
        if path.is_file() and path.stat().st_size < TOO_LARGE
        for host in HOSTS
        if host in path.read_bytes()
    ]
    assert not found


def test_lock_files_have_no_resolved_addresses() -> None:
    names = {path.name for path in files()}
    assert "uv.lock" not in names, "uv.lock writes registry hosts: use make lock"
    for path in files():
        if path.name == "package-lock.json":
            assert '"resolved"' not in path.read_text(), (
                f"{path}: npm config omit-lockfile-registry-resolved"
            )
        if path.name == "requirements.lock":
            text = path.read_text()
            assert "://" not in text
            assert "--index-url" not in text.replace("--no-emit-index-url", "")
