"""The independent checker: folder, log and tables, each read raw, must tell one story.

It uses none of the product's reading code: files are listed, hashed and judged by the driver's
plan, streams are read as Redis fields and JSON, tables by the SQL written here.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis
from support.soak.pictures import THRESHOLD, objects_in

PARTITIONS = 4
STREAMS = (
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
GROUPS = {
    "detect": "files",
    "batch": "detections",
    "assess": "batches",
    "refine": "assessments",
    "refine_first": "assessments",
    "alert": "assessments",
    "notify": "alerts",
}
SHOWN = 5
"""How many culprits a problem names."""

_FILES = """
SELECT f.path, f.file_id, f.state, f.reason, f.duplicate_of, f.picture_ids FROM file_states f
"""
_CHECKPOINTS = "SELECT projection, stream, partition, ms, seq FROM checkpoints"


@dataclass(frozen=True)
class Entry:
    """One stream entry."""

    at: str
    id: str
    tag: str
    data: dict[str, Any]


@dataclass
class Verdict:
    """What the checker found."""

    problems: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    notifications: set[str] = field(default_factory=set)
    """Ids of those that were requested."""

    def same(self, what: str, left: Iterable[Any], right: Iterable[Any]) -> None:
        """Note a problem unless both hold the same things, each as often."""
        a, b = Counter(list(left)), Counter(list(right))
        for name, rest in (("too many", a - b), ("missing", b - a)):
            if rest:
                culprits = ", ".join(map(str, list(rest)[:SHOWN]))
                self.problems.append(f"{what}: {rest.total()} {name}: {culprits}")

    def once(self, what: str, things: Iterable[Any]) -> None:
        """Note a problem when one thing is there more than once."""
        again = {thing: n for thing, n in Counter(things).items() if n > 1}
        if again:
            culprits = ", ".join(map(str, list(again)[:SHOWN]))
            self.problems.append(f"{what}: {len(again)} more than once: {culprits}")


class Log:
    """All streams, raw."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.lanes: dict[tuple[str, int], list[Entry]] = {}
        for stream in STREAMS:
            for partition in range(PARTITIONS):
                rows: Any = client.xrange(_key(stream, partition))
                self.lanes[stream, partition] = [_entry(at, fields) for at, fields in rows]

    def of(self, tag: str) -> list[dict[str, Any]]:
        """Return the payloads of all events of one type."""
        lanes = self.lanes.values()
        return [entry.data for lane in lanes for entry in lane if entry.tag == tag]

    def count(self) -> int:
        """Return how many entries there are."""
        return sum(map(len, self.lanes.values()))


def check(folder: Path, redis_url: str, database_url: str) -> Verdict:
    """Compare folder, log and tables; an empty list of problems is the proof."""
    verdict = Verdict()
    dropped = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    with Redis.from_url(redis_url) as client, psycopg.connect(database_url) as tables:
        log = Log(client)
        ids = (entry.id for lane in log.lanes.values() for entry in lane)
        verdict.once("event ids in the log", ids)
        _check_files(verdict, log, dropped)
        _check_pictures(verdict, log, dropped)
        _check_batches(verdict, log)
        _check_unverified(verdict, log, tables)
        _check_notifications(verdict, log)
        _check_groups(verdict, log)
        _check_tables(verdict, log, tables)
        _check_checkpoints(verdict, log, tables)
        verdict.counts |= {"log entries": log.count()}
    return verdict


# --- the log against the folder -----------------------------------------------------------------


def _check_files(verdict: Verdict, log: Log, dropped: Mapping[str, Path]) -> None:
    """Every file is told once: as a picture, as a duplicate of one, or as rejected."""
    told = {
        tag: {e["path"]: e for e in log.of(tag)}
        for tag in ("image.received", "file.duplicated", "file.rejected")
    }
    every = [e["path"] for tag in told for e in log.of(tag)]
    verdict.same("files told in the log", every, dropped)
    digests = {path: _sha(file) for path, file in dropped.items()}
    for path, event in [*told["image.received"].items(), *told["file.duplicated"].items()]:
        if event["sha256"] != digests.get(path):
            verdict.problems.append(f"{path}: the log has another SHA-256 than the file")
    twins: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, digest in digests.items():
        if path not in told["file.rejected"]:
            twins[path.split("/")[0], digest].append(path)
    for same in twins.values():
        _check_twins(verdict, same, told)
    broken = [
        path for path, file in dropped.items() if not file.read_bytes().endswith(b"\xff\xd9")
    ]
    verdict.same("rejected files", told["file.rejected"], broken)


def _check_twins(
    verdict: Verdict, same: Sequence[str], told: Mapping[str, Mapping[str, dict[str, Any]]]
) -> None:
    """Of files with the same bytes one is the picture, the others are its duplicates."""
    originals = [told["image.received"][p] for p in same if p in told["image.received"]]
    if len(originals) != 1:
        verdict.problems.append(f"{same}: {len(originals)} of them are pictures, not one")
        return
    for path in same:
        duplicate = told["file.duplicated"].get(path)
        if duplicate and duplicate["duplicate_of"] != originals[0]["file_id"]:
            verdict.problems.append(f"{path} is told as a duplicate of another file")


def _check_pictures(verdict: Verdict, log: Log, dropped: Mapping[str, Path]) -> None:
    """Every picture is looked at once, and what was seen is what its bytes show."""
    received = {e["picture_id"]: e for e in log.of("image.received")}
    detected = log.of("objects.detected")
    verdict.same("pictures looked at", (e["picture_id"] for e in detected), received)
    for event in detected:
        picture = received.get(event["picture_id"])
        file = dropped.get(picture["path"]) if picture else None
        if file is None:
            continue
        seen = [(label, score) for label, score, *_ in event["boxes"]]
        if sorted(seen) != sorted(objects_in(file.read_bytes())):
            verdict.problems.append(f"{file}: the log tells other objects than its bytes show")
    if parked := log.of("entry.parked"):
        causes = Counter(f"{e['group']}: {e['cause']}: {e['error'][:80]}" for e in parked)
        verdict.problems.append(f"parked entries: {dict(causes)}")


def _check_batches(verdict: Verdict, log: Log) -> None:
    """Every picture with a detection is in one batch; each batch closes and is scored once."""
    seen = {e["picture_id"] for e in log.of("objects.detected") if _detections(e)}
    joined = log.of("picture.batched")
    verdict.same("pictures batched", (e["member"]["picture_id"] for e in joined), seen)
    closed = log.of("batch.closed")
    verdict.once("batches closed", (e["batch_id"] for e in closed))
    members = [(e["batch_id"], m["picture_id"]) for e in closed for m in e["members"]]
    batched = [(e["batch_id"], e["member"]["picture_id"]) for e in joined]
    verdict.same("members of closed batches", members, batched)
    escalated = log.of("batch.escalated")
    assessed = Counter((e["batch_id"], e["stage"]) for e in log.of("risk.assessed"))
    wanted = [(e["batch_id"], "final") for e in closed]
    wanted += [(e["batch_id"], "fast_path") for e in escalated]
    verdict.same("assessments", assessed.elements(), wanted)
    verdict.counts |= {
        "pictures": len(log.of("image.received")),
        "pictures in batches": len(seen),
        "batches": len(closed),
        "assessments": assessed.total(),
    }


def _check_unverified(verdict: Verdict, log: Log, tables: psycopg.Connection[Any]) -> None:
    """What was told unverified: by cameras that wish it, once an outage; one row each."""
    told = log.of("activity.unverified")
    received = {(e["camera_id"], e["picture_id"]) for e in log.of("image.received")}
    named = [(e["camera_id"], e["picture_id"]) for e in told]
    verdict.same("pictures told unverified and not received", set(named) - received, ())
    verdict.once("pictures told unverified", named)
    wishing = {
        e["camera_id"]
        for e in log.of("camera.registered")
        if e.get("when_unavailable") == "notify"
    }
    verdict.same("cameras told of unasked", {camera for camera, _ in named} - wishing, ())
    _check_outages(verdict, log)
    entries = [entry for lane in log.lanes.values() for entry in lane]
    wanted = [(e.id, e.data["picture_id"]) for e in entries if e.tag == "activity.unverified"]
    rows = tables.execute("SELECT id, picture_id FROM unverified").fetchall()
    verdict.same("rows of what was told unverified", rows, wanted)
    verdict.counts["told unverified"] = len(told)


def _check_outages(verdict: Verdict, log: Log) -> None:
    """Between two tellings of a camera its partition's pictures were looked at: two outages."""
    for partition in range(PARTITIONS):
        seen = [_ms(e) for e in log.lanes["detections", partition]]
        last: dict[str, int] = {}
        for entry in log.lanes["assessments", partition]:
            if entry.tag != "activity.unverified":
                continue
            camera, at = entry.data["camera_id"], _ms(entry)
            before = last.get(camera)
            if before is not None and not any(before <= ms <= at for ms in seen):
                verdict.problems.append(f"{camera} is told of twice in one outage: {entry.id}")
            last[camera] = at


def _check_notifications(verdict: Verdict, log: Log) -> None:
    """What alerts is requested to be told once, an event once however often it was assessed."""
    entries = [entry for lane in log.lanes.values() for entry in lane]
    alerting = {
        e.data["event_id"] for e in entries if e.tag == "risk.assessed" and _age(e) <= _limit(e)
    }
    alerting |= {e["picture_id"] for e in log.of("activity.unverified")}
    requested = log.of("notification.requested")
    about = [e.get("event_id") or e["picture_id"] for e in requested]
    verdict.same("notifications requested", about, alerting)
    verdict.notifications = {e["notification_id"] for e in requested}
    sent = [e["notification_id"] for e in log.of("notification.sent")]
    verdict.same("notifications told as sent", sent, verdict.notifications)
    failed = [e["notification_id"] for e in log.of("notification.failed")]
    verdict.same("notifications given up", failed, ())
    verdict.counts["notifications"] = len(requested)


def check_wire(verdict: Verdict, keys: Sequence[str], *, lost_end: bool) -> None:
    """What was requested reached its receiver, once or more often, and nothing else did.

    A log that lost its end may have lost notifications of batches that were then cut otherwise.
    """
    came = set(keys) & verdict.notifications if lost_end else set(keys)
    verdict.same("notifications received", came, verdict.notifications)
    verdict.counts["messages of notifications"] = len(keys)


def _age(entry: Entry) -> float:
    return _ms(entry) / 1000 - datetime.fromisoformat(entry.data["ended_at"]).timestamp()


def _limit(entry: Entry) -> float:
    return float(entry.data["alert_within_seconds"])


def _ms(entry: Entry) -> int:
    return int(entry.at.partition("-")[0])


def _check_groups(verdict: Verdict, log: Log) -> None:
    """No consumer group has anything pending or unread."""
    for group, stream in GROUPS.items():
        for partition in range(PARTITIONS):
            name = _key(stream, partition)
            info: Any = log.client.xinfo_groups(name)
            row = next(r for r in info if r["name"] == group.encode())
            newest: Any = log.client.xinfo_stream(name)
            if row["pending"] or row["last-delivered-id"] != newest["last-generated-id"]:
                verdict.problems.append(f"group {group}/{partition} is not done: {row}")


# --- the tables against the log -----------------------------------------------------------------


def _check_tables(verdict: Verdict, log: Log, tables: psycopg.Connection[Any]) -> None:
    """Every file has one row in one right state; pictures, detections and events have theirs."""
    rows = tables.execute(_FILES).fetchall()
    verdict.states = Counter(state for _, _, state, *_ in rows)
    wanted = list(_wanted_states(log))
    verdict.same("states of files", ((path, state) for path, _, state, *_ in rows), wanted)
    pictures = tables.execute("SELECT picture_id, batch_id FROM pictures").fetchall()
    batch_of = {e["member"]["picture_id"]: e["batch_id"] for e in log.of("picture.batched")}
    received = [e["picture_id"] for e in log.of("image.received")]
    verdict.same("rows of pictures", pictures, ((p, batch_of.get(p)) for p in received))
    detections = tables.execute("SELECT picture_id, label, confidence FROM detections").fetchall()
    boxes = [
        (e["picture_id"], label, score)
        for e in log.of("objects.detected")
        for label, score in _detections(e)
    ]
    verdict.same("rows of detections", detections, boxes)
    events = tables.execute("SELECT id, stage, picture_ids FROM events").fetchall()
    final = [
        (e["event_id"], "final", tuple(e["picture_ids"]))
        for e in log.of("risk.assessed")
        if e["stage"] == "final"
    ]
    verdict.same("rows of events", ((i, s, tuple(p or ())) for i, s, p in events), final)
    cameras = tables.execute("SELECT id FROM cameras").fetchall()
    registered = [(e["camera_id"],) for e in log.of("camera.registered")]
    verdict.same("rows of cameras", cameras, registered)
    refused = tables.execute("SELECT projection, event_tag, error FROM refused_events").fetchall()
    verdict.same("events that PostgreSQL refused", refused, ())


def _wanted_states(log: Log) -> Iterable[tuple[str, str]]:
    """Return the state that the log's events give to each file."""
    assessed = {p for e in log.of("risk.assessed") for p in e["picture_ids"]}
    for event in log.of("image.received"):
        yield event["path"], "assessed" if event["picture_id"] in assessed else "filtered"
    for event in log.of("file.duplicated"):
        yield event["path"], "duplicate"
    for event in log.of("file.rejected"):
        yield event["path"], "rejected"


def _check_checkpoints(verdict: Verdict, log: Log, tables: psycopg.Connection[Any]) -> None:
    """Every projection has applied every stream that it reads to the end."""
    rows = tables.execute(_CHECKPOINTS).fetchall()
    for projection, stream, partition, ms, seq in rows:
        info: Any = (
            log.client.xinfo_stream(_key(stream, partition))
            if log.client.exists(_key(stream, partition))
            else {"last-generated-id": b"0-0"}
        )
        newest = info["last-generated-id"].decode()
        if f"{ms}-{seq}" != newest:
            where = f"{projection} at {stream}/{partition}"
            verdict.problems.append(f"checkpoint of {where}: {ms}-{seq}, the stream: {newest}")
    names = {projection for projection, *_ in rows}
    if missing := {"ledger", "detections", "timeline", "cameras"} - names:
        verdict.problems.append(f"projections without a checkpoint: {sorted(missing)}")


# --- raw forms ----------------------------------------------------------------------------------


def _key(stream: str, partition: int) -> str:
    return f"hsi:{{{partition}}}:{stream}"


def _entry(at: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    tag = fields[b"type"].decode().partition("/")[0]
    return Entry(at.decode(), fields[b"id"].decode(), tag, json.loads(fields[b"data"]))


def _detections(event: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(label, score) for label, score, *_ in event["boxes"] if score >= THRESHOLD]


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
