"""One table of every stream, key and consumer group of the log.

`{p}` is the partition as a Redis Cluster hash tag: everything of one partition lies in one slot,
so a step that reads one stream and appends to others can be atomic.
"""

from typing import Final
from zlib import crc32

STREAMS: Final = (
    "files",
    "detections",
    "batches",
    "assessments",
    "alerts",
    "cameras",
    "system",
    "parked",
)

GROUPS: Final = {
    "detect": "files",
    "batch": "detections",
    "assess": "batches",
    "refine_first": "assessments",
    "refine": "assessments",
}
"""Consumer group → the stream it reads; every group is created at 0 before the first append."""


def partition_of(camera_id: str, partitions: int) -> int:
    """Return the partition that all events of `camera_id` go to."""
    return crc32(camera_id.encode("utf-8", "surrogateescape")) % partitions


def stream_key(partition: int, stream: str) -> str:
    """Return the Redis key of a stream's partition."""
    return f"hsi:{{{partition}}}:{stream}"


def key(partition: int, *parts: str) -> str:
    """Return a Redis key beside the streams of `partition` (leases, ledgers, snapshots)."""
    return f"hsi:{{{partition}}}:{':'.join(parts)}"


def redrives_key(partition: int) -> str:
    """Return the hash that counts how often each entry was redriven."""
    return key(partition, "redrives")


def redrive_name(group: str, event_id: str) -> str:
    """Return the field of an entry in that hash."""
    return f"{group} {event_id}"


META_KEY: Final = "hsi:meta"
"""Hash: partitions, incarnation; written once at the first start."""
