"""A program that holds embedded servers until its input ends; tests kill it.

`python embedded_holder.py STATE [UID]` prints one JSON line with the URLs and process ids. With
a user id it drops to that user first: after the imports, as Python itself may lie in root's home.
"""

import json
import os
import sys
from pathlib import Path

from runtime.embedded import EmbeddedServers


def main() -> None:
    if len(sys.argv) > 2:
        uid = int(sys.argv[2])
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    servers = EmbeddedServers.start(Path(sys.argv[1]))
    try:
        report = {
            "redis_url": servers.redis_url,
            "database_url": servers.database_url,
            "pids": servers.pids,
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
