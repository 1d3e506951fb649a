"""A Redis that loses its end: data put aside, and put back after a kill as if it were the last."""

import shutil
from pathlib import Path

from support.servers import PrivateValkey


def copy(valkey: PrivateValkey, kept: Path) -> None:
    """Keep the data as it is now; every answered write is in it."""
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
