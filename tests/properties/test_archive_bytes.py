"""`verify` finds one flipped byte anywhere in the archive, and names the file."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.archive import verify
from streams.segments import (
    FORMAT,
    Manifest,
    entry_of,
    line_of,
    store_manifest,
    write_segment,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an archive of three segments in two lanes."""
    folder = tmp_path_factory.mktemp("archive")
    manifest = Manifest(format=FORMAT, incarnation="here", partitions=2)
    for stream, first in (("files", 1), ("detections", 1), ("files", 40)):
        entries = [
            (f"{k}-0".encode(), {b"id": f"e_{k}".encode(), b"data": b'{"k":%d}' % k})
            for k in range(first, first + 30)
        ]
        manifest = manifest.with_segment(write_segment(folder, stream, 1, entries))
        store_manifest(folder, manifest)
    assert verify(folder).problem is None
    return folder


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_flipped_byte_anywhere_is_found_and_its_file_is_named(
    whole: Path, data: st.DataObject
) -> None:
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(names))
    original = (whole / name).read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    mask = data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "archive"
        shutil.copytree(whole, folder)
        changed = bytearray(original)
        changed[at] ^= mask
        (folder / name).write_bytes(bytes(changed))
        problem = verify(folder).problem
    assert problem is not None
    assert name.name in problem


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_file_cut_short_or_gone_is_found(whole: Path, data: st.DataObject) -> None:
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(names))
    original = (whole / name).read_bytes()
    length = data.draw(st.integers(0, len(original) - 1))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "archive"
        shutil.copytree(whole, folder)
        if length:
            (folder / name).write_bytes(original[:length])
        else:
            (folder / name).unlink()
        problem = verify(folder).problem
    assert problem is not None
    assert name.name in problem


@given(
    position=st.tuples(st.integers(0, 2**60), st.integers(0, 2**60)),
    fields=st.dictionaries(st.binary(min_size=1), st.binary()),
)
def test_any_entry_survives_its_line(
    position: tuple[int, int], fields: dict[bytes, bytes]
) -> None:
    entry = (f"{position[0]}-{position[1]}".encode(), fields)
    assert entry_of(line_of(entry)) == entry
