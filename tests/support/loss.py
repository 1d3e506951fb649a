"""A Redis that loses its end: data put aside, and put back after a kill as if it were the last."""

import shutil
import time
from pathlib import Path

from redis import Redis
from support.servers import PrivateValkey

_REWRITING = ("in_progress", "scheduled")


def copy(valkey: PrivateValkey, kept: Path) -> None:
    """Keep the data as it is now; every answered write is in it."""
    with Redis.from_url(valkey.url) as client:
        # While the append-only file is rewritten its parts do not belong together.
        until = time.monotonic() + 30
        while any(client.info("persistence")[f"aof_rewrite_{at}"] for at in _REWRITING):
            assert time.monotonic() < until
            time.sleep(0.01)
    shutil.copytree(valkey.server.folders.valkey, kept)


def put_back(valkey: PrivateValkey, kept: Path) -> None:
    """Kill the server and start it on older data, as after a loss of power."""
    valkey.kill()
    data = valkey.server.folders.valkey
    for part in data.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    shutil.copytree(kept, data, dirs_exist_ok=True)
    for part in (data, *data.rglob("*")):
        valkey.server.folders.give(part)
    valkey.start()
