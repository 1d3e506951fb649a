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
    "enrichments",
    "trials",
    "scenes",
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

OPTIONAL_GROUPS: Final = {
    "enrich_florence": "batches",
    "enrich_clip": "batches",
    "enrich_attributes": "batches",
    "trial_detector": "detections",
    "trial_prompt": "assessments",
    "scene": "files",
    "alert": "assessments",
    "notify": "alerts",
}
"""Groups of stages that an installation may do without. They are created, at 0 too, when their
service is configured, so that they begin with what the stream still holds; without one they hold
nobody up."""

STREAM_OF: Final = {**GROUPS, **OPTIONAL_GROUPS}
"""Consumer group → the stream it reads, those of optional stages as well."""


def partition_of(camera_id: str, partitions: int) -> int:
    """Return the partition that all events of `camera_id` go to."""
    return crc32(camera_id.encode("utf-8", "surrogateescape")) % partitions


def stream_key(partition: int, stream: str) -> str:
    """Return the Redis key of a stream's partition."""
    return f"hsi:{{{partition}}}:{stream}"


def key(partition: int, *parts: str) -> str:
    """Return a Redis key beside the streams of `partition` (leases, ledgers, snapshots)."""
    return f"hsi:{{{partition}}}:{':'.join(parts)}"


def trimmed_key(name: str) -> str:
    """Return the key that says below which position the stream under key `name` was trimmed."""
    prefix, _, stream = name.rpartition(":")
    return f"{prefix}:trimmed:{stream}"


def redrives_key(partition: int) -> str:
    """Return the hash that counts how often each entry was redriven."""
    return key(partition, "redrives")


def failures_key(partition: int, group: str, position: str) -> str:
    """Return the hash of what failed so far at the entry there, until the group has settled it."""
    return key(partition, "failures", group, position)


def redrive_name(group: str, event_id: str) -> str:
    """Return the field of an entry in that hash."""
    return f"{group} {event_id}"


META_KEY: Final = "hsi:meta"
"""Hash: partitions, incarnation; written once at the first start."""
