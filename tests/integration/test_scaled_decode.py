"""Decoding at a fraction of the size costs no detection: the labelled pictures, as 1080p files.

Each labelled picture is enlarged so that its file is one that is reduced while it is decoded. The
fall-back network looks at it decoded as the product does, and decoded in full by Pillow, as
RT-DETR's reference implementation does; then at the square of 640 pixels that Triton would get of
both, stretched back, since this network was trained with pictures that keep their shape.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from domain.events import Box
from domain.labelled import LabelledObject, LabelledPicture, judge, overlap
from hsi.evaluate import PICTURES, read_labels
from inference.embedded_detector import EmbeddedDetector
from inference.images import TARGET_SIDE, decode, square, stretch
from inference.labels import SERVED_LABELS
from inference.ports import Picture

THRESHOLD = 0.5
MARGIN = 0.1
"""Scores move a little with the pixels: what is this clear in one must be there in the other."""


def enlarged(entry: LabelledPicture) -> bytes:
    """Return the picture as a JPEG whose longer side has 1920 pixels."""
    with Image.open(PICTURES / entry.file) as image:
        scale = 1920 / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        large = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    large.save(file, "JPEG", quality=90)
    return file.getvalue()


def in_full(data: bytes, reduced: Picture) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        return replace(reduced, rgb=np.asarray(image.convert("RGB")))


def in_square(shown: Picture, *, exactly: bool) -> Picture:
    """Return what is left of a picture that went through Triton's square."""
    pixels = stretch(shown.rgb, TARGET_SIDE) if exactly else square(shown, TARGET_SIDE)
    scale = 960 / max(shown.width, shown.height)
    size = (round(shown.width * scale), round(shown.height * scale))
    back = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    return replace(shown, rgb=np.asarray(back))


def counted(boxes: tuple[Box, ...], least: float) -> list[Box]:
    return [box for box in boxes if box.score >= least and box.label in SERVED_LABELS]


def lost(one: tuple[Box, ...], other: tuple[Box, ...]) -> list[Box]:
    """Return what is clear in one and not there in the other, at (nearly) the same place."""
    there = [
        LabelledObject((b.label,), b.x, b.y, b.width, b.height) for b in counted(other, THRESHOLD)
    ]
    return [
        box
        for box in counted(one, THRESHOLD + MARGIN)
        if not any(box.label in o.labels and overlap(box, o) >= 0.8 for o in there)
    ]


async def test_detections_are_unchanged_on_the_labelled_pictures(ssdlite_dir: Path) -> None:
    detector = EmbeddedDetector(ssdlite_dir)
    clear = 0
    for entry in read_labels(PICTURES):
        data = enlarged(entry)
        ours = decode(data, entry.file)
        reference = in_full(data, ours)
        assert ours.rgb.size < reference.rgb.size, "it was not reduced while it was decoded"
        answers = await detector.detect(
            [ours, reference, in_square(ours, exactly=False), in_square(reference, exactly=True)]
        )
        for one, other in (answers[:2], answers[2:]):
            assert lost(one.boxes, other.boxes) == [], entry.file
            assert lost(other.boxes, one.boxes) == [], entry.file
            clear += len(counted(other.boxes, THRESHOLD + MARGIN))
        found = [
            len(judge(counted(a.boxes, THRESHOLD), scaled(entry, ours)).found) for a in answers
        ]
        assert max(found) - min(found) <= 1
    await detector.close()
    assert clear >= 90


def scaled(entry: LabelledPicture, shown: Picture) -> LabelledPicture:
    """Return the labels in pixels of the enlarged file."""
    with Image.open(PICTURES / entry.file) as image:
        by = shown.width / image.width
    objects = tuple(
        LabelledObject(o.labels, o.x * by, o.y * by, o.width * by, o.height * by)
        for o in entry.objects
    )
    return LabelledPicture(entry.file, entry.sha256, objects)
