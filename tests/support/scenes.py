"""Views of a camera: real ones, in other light, with somebody in it, tampered with."""

from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from support.logs import NOON

from domain import ids
from domain.events import Event, ImageReceived, SceneView
from domain.scene_changes import Look, SceneState, decide, folded
from hsi.demo import PICTURES
from inference import scene_views

Pixels = NDArray[np.uint8]
EVALUATION = PICTURES.parent / "evaluation_pictures"


@cache
def yard(name: str = "yard-1-01") -> Pixels:
    """Return a frame of the demo's yard, a fixed camera that people walk by."""
    return scene_views.view_of((PICTURES / f"{name}.jpg").read_bytes(), name, 640)


@cache
def elsewhere(name: str = "hallway.png") -> Pixels:
    """Return a picture of another place, of the yard's size."""
    view = scene_views.view_of((EVALUATION / name).read_bytes(), name, 640)
    return resized(view, yard())


def resized(view: Pixels, like: Pixels) -> Pixels:
    """Return a view in the size of another."""
    return np.asarray(cv2.resize(view, (like.shape[1], like.shape[0])), np.uint8)


def clipped(values: NDArray[np.floating]) -> Pixels:
    """Return grey levels."""
    levels: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return levels


def noise(view: Pixels, deviation: float) -> NDArray[np.floating]:
    """Return what a sensor adds; always the same."""
    return np.random.default_rng(7).normal(0, deviation, view.shape)


def lamp(view: Pixels) -> Pixels:
    """Return a view at night, lit by one lamp: dark, noisy, bright in one place."""
    height, width = view.shape
    down, right = np.mgrid[0:height, 0:width].astype(np.float64)
    away = (right - width * 0.3) ** 2 + (down - height * 0.7) ** 2
    light = 0.12 + np.exp(-away / (2 * (width * 0.18) ** 2))
    return clipped(view * light + noise(view, 6))


def infrared(view: Pixels) -> Pixels:
    """Return a view as an infrared camera may see it: what was dark may be bright."""
    height, width = view.shape
    down, right = np.mgrid[0:height, 0:width].astype(np.float64)
    values = view.astype(np.float64)
    details = values - cv2.GaussianBlur(values, (0, 0), 25)
    sign = np.sign(np.sin(right / 90) + np.cos(down / 70) + 0.6)
    return clipped(110 + 0.6 * details * sign + noise(view, 5))


def dimmed(view: Pixels, share: float) -> Pixels:
    """Return a view in less light."""
    return clipped(view * share)


def black(view: Pixels) -> Pixels:
    """Return what a covered lens shows."""
    return clipped(np.abs(noise(view, 1.5)))


def shifted(view: Pixels, pixels: int) -> Pixels:
    """Return what the camera shows once it was turned aside."""
    height, width = view.shape
    by = np.array([[1, 0, pixels], [0, 1, pixels // 4]], np.float64)
    moved = cv2.warpAffine(view, by, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.uint8)


def rolled(view: Pixels, degrees: float) -> Pixels:
    """Return what the camera shows once it was tilted."""
    height, width = view.shape
    by = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turned = cv2.warpAffine(view, by, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.uint8)


def somebody(view: Pixels, share: float, left: float = 0.3) -> Pixels:
    """Return a view with somebody before it who takes this share of its width, from top down."""
    height, width = view.shape
    found, wide = view.copy(), int(width * share)
    at = int(width * left)
    found[:, at : at + wide] = cv2.resize(elsewhere("astronaut.jpg"), (wide, height))
    return found


def jpeg(view: Pixels, quality: int = 90) -> bytes:
    """Return a view as a camera's file."""
    _, encoded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)


def view_at(seconds: float, camera: str = "yard") -> SceneView:
    """Return the picture that a camera took `seconds` after noon."""
    return SceneView(
        picture_id=f"{camera}-{seconds:g}",
        file_id=f"file-{camera}-{seconds:g}",
        path=f"{camera}/{seconds:g}.jpg",
        uri=f"camera:{camera}/{seconds:g}.jpg",
        captured_at=NOON + timedelta(seconds=seconds),
    )


class Camera:
    """One camera's state as pictures come, with every event."""

    def __init__(self, threshold: float = 0.90) -> None:
        self.threshold = threshold
        self.state = SceneState()
        self.events: list[Event] = []

    def sees(self, seconds: float, look: Look) -> tuple[Event, ...]:
        """Decide a picture that compares so with the baseline."""
        found = decide(self.state, "yard", view_at(seconds), look, self.threshold)
        self.state = folded(self.state, found)
        self.events += found
        return found


def put(base: Path, camera: str, name: str, view: Pixels, taken: datetime) -> ImageReceived:
    """Lay a picture into a camera's folder; return the event that tells of it."""
    data = jpeg(view)
    path = f"{camera}/{name}.jpg"
    (base / camera).mkdir(parents=True, exist_ok=True)
    (base / path).write_bytes(data)
    digest = sha256(data).hexdigest()
    return ImageReceived(
        camera_id=camera,
        picture_id=ids.picture_id(camera, digest, taken),
        file_id=ids.file_id(camera, path, digest, 0),
        path=path,
        uri=f"camera:{path}",
        sha256=digest,
        size_bytes=len(data),
        width=view.shape[1],
        height=view.shape[0],
        captured_at=taken,
        captured_from="mtime",
    )
