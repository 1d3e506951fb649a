"""Real pictures to compare two models on, and the two ways in which a model here is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from domain.errors import HsiError, PermanentError
from inference.images import decode, stretch
from inference.parity import Array, Seen
from runtime.settings import PROJECT_ROOT

DEMO_PICTURES: Final = PROJECT_ROOT / "hsi" / "demo_pictures"
LONGER_SIDE: Final = 1920
"""Every picture is compared as if its longer side had so many pixels."""
_SIDE = 640
_SUFFIXES = (".jpg", ".jpeg", ".png")
NAMES: Final = ("labels", "boxes", "scores")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures as Triton takes them."""

    images: Array
    sizes: Array

    @property
    def longer_sides(self) -> list[int]:
        """Return what inference.parity wants to know about each picture."""
        return [LONGER_SIDE] * len(self.images)


def load(folder: Path, most: int = 8) -> Pictures:
    """Return up to `most` pictures of a folder, evenly over its files by name."""
    try:
        names = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
        chosen = names[:: max(1, -(-len(names) // most))]
        shown = [decode(path.read_bytes(), path.name) for path in chosen]
    except (OSError, HsiError) as error:
        raise PermanentError(f"the pictures in {folder} cannot be read: {error}") from error
    if not shown:
        raise PermanentError(f"{folder} holds no .jpg or .png to compare models on")
    images = np.stack([stretch(picture.rgb, _SIDE).transpose(2, 0, 1) for picture in shown])
    scales = [LONGER_SIDE / max(picture.width, picture.height) for picture in shown]
    sizes = [
        (round(picture.width * scale), round(picture.height * scale))
        for picture, scale in zip(shown, scales, strict=True)
    ]
    return Pictures(np.ascontiguousarray(images), np.array(sizes, np.int64))


def seen_by_graph(graph: Path, pictures: Pictures) -> list[Seen]:
    """Return what a deploy graph sees, in batches of three: a batch of one proves too little."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    seen: list[Seen] = []
    while len(seen) < len(pictures.images):
        rows = slice(len(seen), len(seen) + 3)
        feeds = {"images": pictures.images[rows], "orig_target_sizes": pictures.sizes[rows]}
        seen += seen_in(dict(zip(NAMES, session.run(NAMES, feeds), strict=True)))
    return seen


def seen_in(answer: dict[str, Array]) -> list[Seen]:
    """Return a batch's answer picture by picture."""
    rows = zip(*(answer[name] for name in NAMES), strict=True)
    return [Seen(labels, boxes, scores) for labels, boxes, scores in rows]
