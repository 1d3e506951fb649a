"""What checks the page's scripts: npm packages, installed once a machine outside the repository.

Without npm, or where its packages cannot be had, the tests that need them are skipped and say so.
"""

import fcntl
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from support.models import cache_folder

from runtime.settings import PROJECT_ROOT

WEB = PROJECT_ROOT / "web"


@dataclass(frozen=True)
class WebTools:
    """Installed packages."""

    modules: Path

    def run(self, program: str, *arguments: str, folder: Path) -> tuple[int, str]:
        """Run a script of a package; return its status and what it said."""
        node = shutil.which("node")
        assert node is not None
        done = subprocess.run(
            [node, str(self.modules / program), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def web_tools() -> WebTools:
    """Return the packages that web/package-lock.json names."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no npm here, so the types of web/*.js are not checked")
    lock = (WEB / "package-lock.json").read_bytes()
    folder = cache_folder() / f"web-{sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(WEB / name, folder / name)
            command = [npm, "ci", "--silent", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the packages for web/ cannot be had here: {done.stderr[-300:]}")
            (folder / "installed").touch()
    return WebTools(folder / "node_modules")
