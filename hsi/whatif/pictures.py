"""Small pictures with the detection drawn in, as data URIs for a report of one file."""

import base64

import cv2
import numpy as np

from domain.errors import HsiError
from domain.whatif import Cover
from inference import images
from inference.pictures import PictureStore

WIDTH = 320
QUALITY = 70
_COLOUR = (64, 64, 255)
"""Blue, green, red."""


def data_uri(store: PictureStore, cover: Cover) -> str | None:
    """Return the picture as a data URI; None when it cannot be read any more."""
    try:
        picture = images.decode(store.read(cover.uri), cover.uri, target=WIDTH)
    except HsiError:
        return None
    height, width = picture.rgb.shape[:2]
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    pixels = cv2.resize(picture.rgb[:, :, ::-1], size, interpolation=cv2.INTER_AREA)
    scale = WIDTH / picture.width
    corner = (round(cover.x * scale), round(cover.y * scale))
    other = (round((cover.x + cover.width) * scale), round((cover.y + cover.height) * scale))
    drawn = cv2.rectangle(np.ascontiguousarray(pixels), corner, other, _COLOUR, 2)
    _, encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
