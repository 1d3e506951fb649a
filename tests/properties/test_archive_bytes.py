"""`verify` finds one flipped byte anywhere in the archive, and names the file."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.archive import verify
from streams.block_sums import BLOCK, first_damage, with_sums
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
    if name.suffix == ".zst":
        told = f"byte {at} is 0x{changed[at]:02x} and was written as 0x{original[at]:02x}"
        assert told in problem


@given(content=st.binary(min_size=1, max_size=1500), data=st.data())
def test_damage_of_any_length_is_found_in_its_block(content: bytes, data: st.DataObject) -> None:
    whole = with_sums(content)
    begin = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))
    damaged = whole[:begin] + noise + whole[begin + len(noise) :]
    damaged = damaged[: len(whole)]
    changed = [k for k, pair in enumerate(zip(whole, damaged, strict=True)) if pair[0] != pair[1]]
    told = first_damage(damaged, len(whole), whole.__eq__)
    if not changed:
        assert told is None
    elif told is None:
        assert len(content) in range(changed[0], changed[-1]), "only a lost header hides the place"
    elif told.startswith("byte "):
        assert told.startswith(f"byte {changed[0]} is ")
    else:
        assert told.startswith(f"bytes {changed[0] // BLOCK * BLOCK} to ")
        assert len(changed) > 1


def test_what_has_no_checksums_of_its_own_is_not_judged_by_them() -> None:
    older = bytes(range(256)) * 4
    assert first_damage(older[:-1] + b"x", len(older), older.__eq__) is None
    assert first_damage(b"", 0, b"".__eq__) is None


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
