"""Picture bytes to pixels: every kind that a camera or a prankster may leave in a folder."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from support.models import demo_picture

from domain.errors import PermanentError
from inference import images


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture whose corners differ, so that no turn or mirror looks like another."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = columns * 255 // max(1, width - 1)
    green = rows * 255 // max(1, height - 1)
    blue = np.where((columns < width // 4) & (rows < height // 4), 255, 20)
    return Image.fromarray(np.dstack([red, green, blue]).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(image: Image.Image, **options: object) -> bytes:
    return saved(image, "JPEG", quality=95, subsampling=0, **options)


def difference(found: NDArray[np.uint8], image: Image.Image) -> float:
    wanted = np.asarray(image.convert("RGB"), np.int16)
    assert found.shape == wanted.shape
    return float(np.abs(found.astype(np.int16) - wanted).mean())


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        pytest.param(jpeg(scene()), scene(), id="jpeg"),
        pytest.param(jpeg(scene(), progressive=True), scene(), id="progressive"),
        pytest.param(jpeg(scene().convert("L")), scene().convert("L"), id="grey jpeg"),
        pytest.param(jpeg(scene().convert("CMYK")), scene(), id="cmyk jpeg"),
        pytest.param(saved(scene(), "PNG"), scene(), id="png"),
        pytest.param(saved(scene().convert("RGBA"), "PNG"), scene(), id="png with alpha"),
        pytest.param(saved(scene().convert("P"), "PNG"), scene().convert("P"), id="palette"),
        pytest.param(saved(scene().convert("1"), "PNG"), scene().convert("1"), id="one bit"),
        pytest.param(
            saved(scene(), "PNG", save_all=True, append_images=[scene().rotate(180)] * 3),
            scene(),
            id="animated png",
        ),
    ],
)
def test_every_kind_becomes_rgb(data: bytes, wanted: Image.Image) -> None:
    picture = images.decode(data, "a.jpg")
    assert picture.rgb.dtype == np.uint8
    assert (picture.width, picture.height) == (96, 64)
    assert picture.encoded == data
    assert difference(picture.rgb, wanted) < 4


def test_sixteen_bits_keep_the_upper_eight() -> None:
    grey = (np.asarray(scene().convert("L")).astype(np.uint16)) << 8
    colour = np.asarray(scene()).astype(np.uint16)[:, :, ::-1] << 8
    for pixels, wanted in ((grey, scene().convert("L")), (colour, scene())):
        data = cv2.imencode(".png", pixels)[1].tobytes()
        assert difference(images.decode(data, "deep.png").rgb, wanted) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(scene(), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = images.decode(data, "turned")
    assert (picture.width, picture.height) == wanted.size
    assert difference(picture.rgb, wanted) < 3
    content, media_type = images.upload(picture)
    assert media_type == ("image/jpeg" if orientation > 1 else f"image/{kind.lower()}")
    assert images.probe(content, "sent").orientation == 1
    assert difference(images.decode(content, "sent").rgb, wanted) < 6


# Pillow warns of such a block; a person at the console may well be told.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_a_broken_exif_block_costs_nothing() -> None:
    data = jpeg(scene(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert difference(images.decode(data, "odd.jpg").rgb, scene()) < 3
    assert images.probe(data, "odd.jpg").orientation == 1


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((1920, 1080), (960, 540)),
        ((1080, 1920), (540, 960)),
        ((3840, 2160), (960, 540)),
        ((2592, 1944), (1296, 972)),
        ((1281, 1025), (641, 513)),
        ((1280, 720), (1280, 720)),
        ((768, 576), (768, 576)),
        ((17, 5), (17, 5)),
    ],
)
def test_jpegs_are_reduced_where_that_costs_nothing(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    picture = images.decode(jpeg(scene(*size)), "large.jpg")
    assert (picture.width, picture.height) == size
    assert picture.rgb.shape == (decoded[1], decoded[0], 3)
    assert difference(picture.rgb, scene(*size).resize(decoded)) < 3


def test_a_detector_with_a_small_input_gets_still_smaller_pictures() -> None:
    assert images.decode(jpeg(scene(1920, 1080)), "a.jpg", target=300).rgb.shape == (270, 480, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"hello", "neither a JPEG nor a PNG", id="text"),
        pytest.param(saved(scene(), "GIF"), "neither a JPEG nor a PNG", id="gif"),
        pytest.param(jpeg(scene(400, 300))[:-400], "cut off", id="cut jpeg"),
        pytest.param(jpeg(scene())[:300], "JPEG", id="jpeg without data"),
        pytest.param(saved(scene(400, 300), "PNG")[:-600], "does not decode", id="cut png"),
        pytest.param(
            jpeg(scene(400, 300), exif=b"Exif\0\0" + jpeg(scene()))[:-400],
            "cut off",
            id="cut jpeg with a whole thumbnail",
        ),
    ],
)
def test_what_is_no_whole_picture_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason) as caught:
        images.decode(data, "yard/odd.jpg")
    assert "yard/odd.jpg" in str(caught.value)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [8_001, 10_000, 14_000, 40_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    """There are no pixels in these files: only the header can be what was refused."""
    with pytest.raises(PermanentError, match="above the limit of 64 megapixels"):
        images.decode(png_header(side, side), "bomb.png")


def test_a_square_is_pillow_s_to_the_bit_unless_the_picture_was_reduced() -> None:
    small = images.decode(jpeg(scene(768, 576)), "small.jpg")
    assert (images.square(small, 640) == images.stretch(small.rgb, 640)).all()
    large = images.decode(jpeg(scene(1920, 1080)), "large.jpg")
    assert large.rgb.shape == (540, 960, 3)
    reference = scene(1920, 1080).resize((640, 640), Image.Resampling.BILINEAR)
    assert difference(images.square(large, 640), reference) < 1.5
    # A detector that looks at much less than was decoded must not skip pixels.
    assert (images.square(large, 300) == images.stretch(large.rgb, 300)).all()


def test_stretch_and_letterbox() -> None:
    rgb = np.asarray(scene(200, 100))
    assert images.stretch(rgb, 64).shape == (64, 64, 3)
    square = images.letterbox(rgb, 50)
    assert square.shape == (50, 50, 3)
    assert (square[25:] == 127).all()
    assert not (square[:25] == 127).all()
    assert images.letterbox(np.zeros((1, 3000, 3), np.uint8), 300).shape == (300, 300, 3)


SEEDS = (demo_picture("porch-1-02.jpg")[:20_000], saved(scene(), "PNG"), jpeg(scene()))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    hits=st.lists(st.tuples(st.integers(0, 19_999), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 20_000),
)
def test_damaged_bytes_become_a_picture_or_a_permanent_error(
    seed: bytes, hits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for place, value in hits:
        data[place % len(data)] = value
    try:
        picture = images.decode(bytes(data[: max(cut, 4)]), "damaged.jpg")
    except PermanentError:
        return
    assert picture.rgb.ndim == 3
