"""PictureStore: reads what it should, and nothing from outside its two folders."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.paths import escape_path
from inference.pictures import NotAFileError, OutsideError, PictureStore

FILE_ID = "file_0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    (tmp_path / "cameras" / "Front").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return PictureStore(tmp_path / "cameras", tmp_path / "frames", max_bytes=100)


def test_reads_a_cameras_picture(store: PictureStore) -> None:
    (store.base / "Front" / "a.jpg").write_bytes(b"bytes")
    assert store.read("camera:Front/a.jpg") == b"bytes"
    assert store.path("camera:Front/a.jpg") == store.base.resolve() / "Front" / "a.jpg"


def test_frames_come_back_and_can_be_discarded(store: PictureStore) -> None:
    uris = [store.save_frame(FILE_ID, n, jpeg) for n, jpeg in ((1, b"one"), (2, b"two"))]
    assert uris == [f"frame:{FILE_ID}/1.jpg", f"frame:{FILE_ID}/2.jpg"]
    assert [store.read(uri) for uri in uris] == [b"one", b"two"]
    assert sorted(path.name for path in (store.frames / FILE_ID).iterdir()) == ["1.jpg", "2.jpg"]
    store.discard_frames(FILE_ID)
    with pytest.raises(PermanentError, match="has vanished"):
        store.read(uris[0])


@pytest.mark.parametrize(
    "uri",
    [
        "camera:../secret.jpg",
        "camera:Front/../../secret.jpg",
        "camera:/etc/passwd",
        "camera:",
        "camera:Front//a.jpg",
        "camera:./Front/a.jpg",
        "camera:Front/",
        "camera:Front/a\0.jpg",
        r"camera:Front/a\u0000.jpg",
        "frame:../secret.jpg",
        f"frame:{FILE_ID}/../1.jpg",
        f"frame:{FILE_ID}/0.jpg",
        f"frame:{FILE_ID}/1.jpg\n",
        "frame:file_x/1.jpg",
        "file:///etc/passwd",
        "secret.jpg",
        "",
    ],
)
def test_nothing_outside_is_reached(store: PictureStore, uri: str) -> None:
    for ask in (store.read, store.path):
        with pytest.raises(PermanentError):
            ask(uri)


def test_links_out_of_the_folder_are_refused(store: PictureStore, tmp_path: Path) -> None:
    (store.base / "Front" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (store.base / "up").symlink_to(tmp_path)
    for uri in ("camera:Front/link.jpg", "camera:up/secret.jpg"):
        with pytest.raises(OutsideError, match="leads out of its folder"):
            store.read(uri)


def test_links_within_the_folder_and_a_linked_base_are_followed(
    store: PictureStore, tmp_path: Path
) -> None:
    (store.base / "Front" / "a.jpg").write_bytes(b"bytes")
    (store.base / "Front" / "latest.jpg").symlink_to("a.jpg")
    (store.base / "Alias").symlink_to("Front")
    (tmp_path / "linked").symlink_to(store.base)
    linked = PictureStore(tmp_path / "linked", store.frames)
    for uri in ("camera:Front/latest.jpg", "camera:Alias/a.jpg"):
        assert store.read(uri) == linked.read(uri) == b"bytes"


def test_what_is_no_file_is_refused_without_waiting(store: PictureStore) -> None:
    os.mkfifo(store.base / "Front" / "pipe.jpg")
    with pytest.raises(NotAFileError):
        store.read("camera:Front/pipe.jpg")
    with pytest.raises(TransientError, match="is a folder"):
        store.read("camera:Front")


def test_a_vanished_file_names_its_path(store: PictureStore) -> None:
    for uri in ("camera:Front/gone.jpg", "camera:Gone/a.jpg"):
        with pytest.raises(PermanentError, match=f"{uri} has vanished"):
            store.read(uri)


def test_a_vanished_base_folder_is_waited_for(store: PictureStore, tmp_path: Path) -> None:
    os.rename(store.base, tmp_path / "elsewhere")
    with pytest.raises(ServiceUnavailableError, match="is away"):
        store.read("camera:Front/a.jpg")


def test_too_many_bytes_are_refused(store: PictureStore) -> None:
    (store.base / "Front" / "a.jpg").write_bytes(b"x" * 101)
    with pytest.raises(PermanentError, match="101 bytes, more than the limit of 100"):
        store.read("camera:Front/a.jpg")


def test_overwritten_bytes_are_noticed(store: PictureStore) -> None:
    (store.base / "Front" / "a.jpg").write_bytes(b"first")
    first = sha256(b"first").hexdigest()
    assert store.read("camera:Front/a.jpg", expected_sha256=first) == b"first"
    (store.base / "Front" / "a.jpg").write_bytes(b"second")
    with pytest.raises(PermanentError, match="was overwritten"):
        store.read("camera:Front/a.jpg", expected_sha256=first)


def test_frames_that_cannot_be_saved_say_where_and_leave_nothing(store: PictureStore) -> None:
    store.frames.write_bytes(b"a file where the folder should be")
    with pytest.raises(TransientError, match=f"cannot be saved in {store.frames}"):
        store.save_frame(FILE_ID, 1, b"one")
    with pytest.raises(OutsideError):
        store.save_frame("../x", 1, b"one")
    with pytest.raises(OutsideError):
        store.discard_frames("..")


def test_an_unreadable_file_may_become_readable(store: PictureStore, tmp_path: Path) -> None:
    (store.base / "Front" / "a.jpg").write_bytes(b"bytes")
    (store.base / "Front" / "a.jpg").chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(TransientError, match="cannot be read"):
            store.read("camera:Front/a.jpg")
        return
    # Root reads everything: ask as somebody else.
    program = (
        "import os,sys; from pathlib import Path; from domain.errors import TransientError;"
        "from inference.pictures import PictureStore; s = PictureStore(*map(Path, sys.argv[1:]));"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: s.read('camera:Front/a.jpg')\n"
        "except TransientError as error: print(error)"
    )
    for folder in (*tmp_path.parents, tmp_path, store.base, store.base / "Front"):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    answer = subprocess.run(
        [sys.executable, "-c", program, str(store.base), str(store.frames)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be read: Permission denied" in answer.stdout


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.binary(min_size=1, max_size=255).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
    )
)
def test_any_name_can_be_read_back(store: PictureStore, name: bytes) -> None:
    path = os.path.join(os.fsencode(store.base), b"Front", name)
    with open(path, "wb") as file:
        file.write(name[:100])
    try:
        uri = f"camera:{escape_path(os.fsdecode(b'Front/' + name))}"
        assert store.read(uri) == name[:100]
        assert os.fsencode(store.path(uri)).endswith(name)
    finally:
        os.unlink(path)
