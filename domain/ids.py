"""Deterministic identities: the same fact gets the same id on every delivery and every replay."""

import re
import unicodedata
from datetime import UTC, datetime
from hashlib import blake2b

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


def _digest(prefix: str, *parts: str) -> str:
    """Hash `parts` so that no two different lists of parts can give the same text."""
    hasher = blake2b(digest_size=12)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        hasher.update(len(data).to_bytes(4, "big"))
        hasher.update(data)
    return f"{prefix}_{hasher.hexdigest()}"


def instant(moment: datetime) -> str:
    """Return the one text form of a moment that ids are made from (UTC, microseconds)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def camera_id(folder: str) -> str:
    """Return the id of the camera that owns `folder` ("Front Door" becomes `front_door`).

    A folder name without a single letter or digit in ASCII gets a hash, so that it is still one
    camera of its own.
    """
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode().lower()
    slug = _NOT_A_WORD.sub("_", plain).strip("_")[:64]
    return slug or _digest("cam", folder)


def file_id(camera: str, path: str, sha256: str, modified_ns: int) -> str:
    """Return the id of one file as it lay in the camera's folder (a rewritten file is another)."""
    return _digest("file", camera, path, sha256, str(modified_ns))


def picture_id(camera: str, sha256: str, captured_at: datetime, frame: int = 0) -> str:
    """Return the id of one picture; `frame` numbers the pictures taken out of one video."""
    return _digest("pic", camera, sha256, instant(captured_at), str(frame))


def detection_id(picture: str, index: int) -> str:
    """Return the id of the box at `index` of the picture's stored boxes."""
    return f"{picture}.{index}"


def batch_id(camera: str, first_picture: str) -> str:
    """Return the id of the batch that `first_picture` opened."""
    return _digest("batch", camera, first_picture)


def event_id(batch: str) -> str:
    """Return the id of the event (the row a person sees) that a batch becomes."""
    return _digest("evt", batch)


def sighting_id(event: str, detection: str) -> str:
    """Return the id of one object of an event as it may be recognised again."""
    return _digest("sight", event, detection)


def notification_id(about: str, channel: str) -> str:
    """Return the id of the one notification about an event (or a picture) by a channel."""
    return _digest("ntf", about, channel)


def scene_change_id(camera: str, picture: str) -> str:
    """Return the id of the change that a picture showed of its camera's view."""
    return _digest("scene", camera, picture)


def follow_up_id(cause: str, tag: str, index: int = 0) -> str:
    """Return the envelope id of the `index`-th event of type `tag` that `cause` led to."""
    return _digest("e", cause, tag, str(index))
