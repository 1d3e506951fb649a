"""Where a checkpoint comes from: folders, and a local server that imitates the hub."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import PermanentError, TransientError
from hsi.models import checkpoints
from hsi.models.checkpoints import DEFAULT, PINS, WEIGHTS, find

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder as the hub lays its files out; give the URL and the folder."""
    root = tmp_path / "hub"
    root.mkdir()
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", root
        server.shutdown()
        thread.join()


def publish(root: Path, name: str, revision: str) -> None:
    folder = root / name / "resolve" / revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / WEIGHTS).write_bytes(b"tensors")


def test_a_named_revision_is_fetched_once(hub: tuple[str, Path], tmp_path: Path) -> None:
    url, root = hub
    publish(root, "someone/rtdetr_v2_r50vd", REVISION)
    named = f"someone/rtdetr_v2_r50vd@{REVISION}"
    found = find(named, tmp_path / "cache", url)
    assert (found.folder / WEIGHTS).read_bytes() == b"tensors"
    assert found.source == named
    assert found.version.startswith("r50vd-")
    assert sorted(path.name for path in found.folder.iterdir()) == ["config.json", WEIGHTS]
    assert find(named, tmp_path / "cache", "http://127.0.0.1:9") == found


def test_pinned_bytes_that_are_wrong_are_not_used(hub: tuple[str, Path], tmp_path: Path) -> None:
    url, root = hub
    publish(root, DEFAULT, PINS[DEFAULT].revision)
    with pytest.raises(PermanentError, match=r"has the checksum .*, not ed051ec7"):
        find(DEFAULT, tmp_path / "cache", url)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_hub_without_the_file_or_without_an_answer_is_said(
    hub: tuple[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TransientError, match="answered 404"):
        find(DEFAULT, tmp_path / "cache", hub[0])
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9.*cannot be had"):
        find(DEFAULT, tmp_path / "cache", "http://127.0.0.1:9")


def test_more_than_is_allowed_is_cut_off(
    hub: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = hub
    publish(root, "someone/big", REVISION)
    (root / "someone/big/resolve" / REVISION / WEIGHTS).write_bytes(b"x" * 5000)
    monkeypatch.setattr(checkpoints, "_LARGEST", 4000)
    with pytest.raises(PermanentError, match="is larger than"):
        find(f"someone/big@{REVISION}", tmp_path / "cache", url)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nothing", "neither a folder nor"),
        ("a/b/c", "neither a folder nor"),
        ("../../etc/x", "neither a folder nor"),
        (f"{DEFAULT}@main", "neither a folder nor"),
        ("someone/else", "has no pinned revision here"),
    ],
)
def test_a_name_that_means_nothing_fetches_nothing(tmp_path: Path, named: str, said: str) -> None:
    with pytest.raises(PermanentError, match=said):
        find(named, tmp_path / "cache", "http://127.0.0.1:9")


def test_a_folder_must_hold_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(PermanentError, match=r"has no model\.safetensors"):
        find(str(tmp_path / "mine"), tmp_path / "cache", "http://127.0.0.1:9")
