"""A /detect service as a process of its own on a fixed port: it can be killed and come back.

It answers like `InstantDetector`, and takes half a second to start.
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web

TESTS = Path(__file__).resolve().parent.parent


class DetectorProcess:
    """The service; `start` again after `kill` brings it back to the same port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.detector_process", str(self.port)], cwd=TESTS
        )
        end = time.monotonic() + 30
        while not self._listens():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Serve until killed."""
    from support.instant_detector import InstantDetector

    detector = InstantDetector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/detect", detector.detect)
    app.router.add_get("/health", detector.health)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
