"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME --json` runs one."""

import argparse
import importlib
import json
import sys

NAMES = {
    "step": "agent step: read, handle, append, acknowledge; against FastStream and raw redis-py",
    "settle": "the fenced settlement of runs of 100 against plain pipelined XADD and XACK",
    "decode": "a 1080p JPEG to a detector's 640 x 640 pixels, against Pillow",
    "triton-client": "our Triton client against a bare tritonclient loop on a real server",
    "project": "from the log into the read models",
    "whatif": "`hsi replay` over recorded detections: a week of four cameras with --full",
    "rebuild": "the read models anew from the log, against a bare COPY of the same rows",
    "latency": "file closed → pushed to a WebSocket client, detector faked",
    "alerts": "file closed → message at a webhook's receiver, beside the push of the same event",
    "shadow": "the same with a shadow detector beside it, in turns: what a trial costs live",
    "scene": "one check of a camera's view, and file → push with and without the role, in turns",
    "api": "lists, searches and single events over a stock (a million with --full)",
    "websocket": "messages to 1,000 clients, ten of them stuck (10,000 connections with --full)",
    "footprint": "`hsi up` warm: seconds to ready, memory and idle processor time",
}


def main() -> int:
    """Run one benchmark and print its figures; the last line is JSON with --json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(NAMES))
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")
    parser.add_argument("--full", action="store_true", help="the size an issue names")
    arguments = parser.parse_args()
    if arguments.name is None:
        for name, what in NAMES.items():
            print(f"{name:10} {what}")
        return 0
    figures = importlib.import_module(f"benchmarks.{arguments.name.replace('-', '_')}").run(
        full=arguments.full
    )
    for key, value in figures.items():
        print(f"{key:28} {value}")
    if arguments.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
