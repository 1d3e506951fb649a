"""Fetching model files: a real hub server on loopback, the real pip on wheels made here."""

import asyncio
import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support.hub import CONTENT, Hub
from support.models import cache_folder

from domain.errors import TransientError
from inference.downloads import Fetcher, Progress
from inference.weights import (
    RTDETR,
    SSDLITE,
    Artefact,
    HubFile,
    NpmTarball,
    WheelParts,
    detector_in,
    is_current,
    read_manifest,
)

NOWHERE = "http://127.0.0.1:9"
ARTEFACT = Artefact(
    name="tiny",
    kind="risk",
    title="Tiny model",
    version="1",
    file="model.gguf",
    licence="Apache-2.0",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    hub=HubFile("someone/tiny", "weights/tiny.gguf", "abc123"),
)
PARTS = replace(ARTEFACT, registry=WheelParts("tiny-part{part}", "1.5", 3, ".bin"))
TARBALL = NpmTarball("tiny-tfjs", "1.0.0", "0" * 64, 1000, "package/model")


def assert_right(models_dir: Path) -> None:
    assert ARTEFACT.path(models_dir).read_bytes() == CONTENT
    manifest = read_manifest(ARTEFACT, models_dir)
    assert manifest is not None
    assert is_current(ARTEFACT, manifest)
    assert leftovers(models_dir) == []


def leftovers(models_dir: Path) -> list[str]:
    work = models_dir / ".partial" / ARTEFACT.name
    return sorted(path.name for path in work.iterdir() if path.name != "lock")


async def test_from_the_hub_with_progress_and_only_once(tmp_path: Path) -> None:
    hub, steps = Hub(), list[Progress]()
    async with hub.running() as url:
        fetcher = Fetcher(tmp_path, hub_url=url, report=steps.append)
        fetched = await fetcher.fetch(ARTEFACT)
        again = await fetcher.fetch(ARTEFACT)
    assert_right(tmp_path)
    assert again.manifest == fetched.manifest
    assert hub.requests == [None]
    assert fetched.manifest.source == f"{url}/someone/tiny/resolve/abc123/weights/tiny.gguf"
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (0, len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("ranges", [True, False])
async def test_an_interrupted_download_goes_on_where_it_was(tmp_path: Path, ranges: bool) -> None:
    hub = Hub()
    hub.ranges = ranges
    async with hub.running() as url:
        fetcher = Fetcher(tmp_path, hub_url=url)
        hub.cut_after = 100_000
        with pytest.raises(TransientError, match="Tiny model cannot be had"):
            await fetcher.fetch(ARTEFACT)
        arrived = (tmp_path / ".partial" / "tiny" / "hub").stat().st_size
        assert 0 < arrived <= 100_000
        assert not ARTEFACT.path(tmp_path).exists()
        hub.cut_after = None
        await fetcher.fetch(ARTEFACT)
    assert hub.requests == [None, f"bytes={arrived}-"]
    assert_right(tmp_path)


async def test_a_download_that_stalls_is_given_up_and_gone_on_with(tmp_path: Path) -> None:
    hub = Hub()
    async with hub.running() as url:
        hub.stall_after = 100_000
        fetcher = Fetcher(tmp_path, hub_url=url, read_timeout=0.3)
        with pytest.raises(TransientError, match=r"broke off.*behind byte 100000"):
            await fetcher.fetch(ARTEFACT)
        hub.stall_after = None
        await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
    assert hub.requests == [None, "bytes=100000-"]
    assert_right(tmp_path)


async def test_a_part_that_begins_elsewhere_is_never_put_behind_the_first(tmp_path: Path) -> None:
    hub = Hub()
    async with hub.running() as url:
        hub.cut_after = 100_000
        with pytest.raises(TransientError, match="broke off"):
            await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
        hub.cut_after, hub.shifted = None, 17
        with pytest.raises(TransientError, match="though asked for the bytes from"):
            await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
        hub.shifted = 0
        await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
    assert_right(tmp_path)


async def test_a_hub_that_sends_on_to_another_host_and_goes_on_there(tmp_path: Path) -> None:
    hub, elsewhere = Hub(b""), Hub()
    elsewhere.cut_after = 100_000
    async with hub.running() as url, elsewhere.running() as other:
        hub.moved_to = f"{other}/cdn"
        with pytest.raises(TransientError, match="broke off"):
            await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
        arrived = (tmp_path / ".partial" / "tiny" / "hub").stat().st_size
        elsewhere.cut_after = None
        fetched = await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
    assert (hub.requests, elsewhere.requests) == ([], [None, f"bytes={arrived}-"])
    assert fetched.manifest.source.startswith(url)
    assert_right(tmp_path)


@pytest.mark.parametrize(
    ("moved_to", "said"),
    [
        ("/someone/tiny/resolve/abc123/weights/tiny.gguf", "redirects in a circle"),
        ("file:///etc/passwd", "file:///etc/passwd, which is no web address"),
        ("http://127.0.0.1:9/cdn", "not reachable"),
        ("/nowhere", "answered 404"),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_said(
    tmp_path: Path, moved_to: str, said: str
) -> None:
    hub = Hub()
    hub.moved_to = moved_to
    async with hub.running() as url:
        with pytest.raises(TransientError, match=said):
            await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
    assert not ARTEFACT.path(tmp_path).exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
async def test_a_hub_that_fails_is_passed_over_and_nothing_is_left(
    tmp_path: Path, status: int
) -> None:
    hub = Hub()
    hub.status = status
    async with hub.running() as url:
        with pytest.raises(TransientError, match=f"resolve/abc123.*answered {status}"):
            await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
        assert leftovers(tmp_path) == []
        hub.status = 302
        await Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT)
    assert_right(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(CONTENT[:-1] + b"!", "has the checksum", id="another byte"),
        pytest.param(CONTENT + b"!", "sends more than", id="longer"),
        pytest.param(CONTENT[:-1], "has the checksum", id="shorter"),
    ],
)
async def test_wrong_bytes_never_become_a_model(tmp_path: Path, content: bytes, said: str) -> None:
    hub = Hub(content)
    async with hub.running() as url:
        fetcher = Fetcher(tmp_path, hub_url=url)
        with pytest.raises(TransientError, match=said):
            await fetcher.fetch(ARTEFACT)
        assert not ARTEFACT.path(tmp_path).exists()
        assert leftovers(tmp_path) == []
        hub.content = CONTENT
        await fetcher.fetch(ARTEFACT)
    assert_right(tmp_path)


async def test_a_wrong_file_in_its_place_is_replaced(tmp_path: Path) -> None:
    async with Hub().running() as url:
        fetcher = Fetcher(tmp_path, hub_url=url)
        await fetcher.fetch(ARTEFACT)
        ARTEFACT.path(tmp_path).write_bytes(CONTENT[:1000])
        assert read_manifest(ARTEFACT, tmp_path) is None
        await fetcher.fetch(ARTEFACT)
    assert_right(tmp_path)


async def test_two_fetchers_at_once_fetch_it_once(tmp_path: Path) -> None:
    hub = Hub()
    async with hub.running() as url:
        fetches = (Fetcher(tmp_path, hub_url=url).fetch(ARTEFACT) for _ in range(3))
        await asyncio.gather(*fetches)
    assert hub.requests == [None]
    assert_right(tmp_path)


async def test_a_missing_file_and_a_hub_that_is_not_there(tmp_path: Path) -> None:
    async with Hub().running() as url:
        moved = replace(ARTEFACT, hub=HubFile("someone/else", "x.gguf"))
        with pytest.raises(TransientError, match="answered 404"):
            await Fetcher(tmp_path, hub_url=url).fetch(moved)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransientError, match=r"http://127\.0\.0\.1:9 is not reachable"):
        await Fetcher(tmp_path, hub_url=NOWHERE).fetch(ARTEFACT)
    assert asyncio.get_running_loop().time() - began < 2


async def test_no_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    hub = Hub()
    async with hub.running() as url:
        with pytest.raises(TransientError, match=r"needs \d+ MiB .* HSI_MODELS_DIR"):
            await Fetcher(tmp_path, hub_url=url).fetch(replace(ARTEFACT, size=1 << 60))
    assert hub.requests == []


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransientError, match="cannot write models to"):
        await Fetcher(tmp_path / "file" / "models", hub_url=NOWHERE).fetch(ARTEFACT)


# --- package registries ---------------------------------------------------------------------


def make_wheel(folder: Path, part: int, content: bytes) -> None:
    name = f"tiny_part{part}"
    info = f"{name}-1.5.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: tiny-part{part}\nVersion: 1.5\n"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('code of a part was run')",
        f"{name}/data/part{part:02}.bin": content,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{name}-1.5-py3-none-any.whl", "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that pip takes for its only registry."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


async def test_parts_become_the_file_and_arrived_parts_are_kept(
    tmp_path: Path, shelf: Path
) -> None:
    cuts = [CONTENT[:100_000], CONTENT[100_000:200_000], CONTENT[200_000:]]
    make_wheel(shelf, 1, cuts[0])
    make_wheel(shelf, 2, cuts[1])
    models_dir = tmp_path / "models"
    fetcher = Fetcher(models_dir, hub_url=NOWHERE)
    with pytest.raises(TransientError, match=r"is not reachable.*tiny-part3==1\.5") as caught:
        await fetcher.fetch(PARTS)
    assert "no matching distribution" in str(caught.value).lower()
    assert leftovers(models_dir) == ["part01", "part02"]
    # Only the third is to be had now.
    empty(shelf)
    make_wheel(shelf, 3, cuts[2])
    fetched = await fetcher.fetch(PARTS)
    assert_right(models_dir)
    assert fetched.manifest.source == "Python packages tiny-part1..3==1.5"
    assert "is not reachable" in fetched.problems[0]


async def test_a_changed_part_is_never_used(tmp_path: Path, shelf: Path) -> None:
    for part in (1, 2, 3):
        make_wheel(shelf, part, CONTENT[(part - 1) * 100_000 : part * 100_000 - part // 3])
    models_dir = tmp_path / "models"
    with pytest.raises(TransientError, match="has the checksum"):
        await Fetcher(models_dir, hub_url=NOWHERE).fetch(PARTS)
    assert not PARTS.path(models_dir).exists()
    assert leftovers(models_dir) == []


def fake_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def test_a_changed_npm_package_is_never_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = tmp_path / "other.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(__file__, "package/model/model.json")
    fake_npm(tmp_path / "bin", f'cp "{tarball}" tiny-tfjs-1.0.0.tgz', monkeypatch)
    wanted = replace(ARTEFACT, sha256=None, hub=None, registry=TARBALL)
    with pytest.raises(TransientError, match="it was changed and is not used"):
        await Fetcher(tmp_path / "models", hub_url=NOWHERE).fetch(wanted)
    right = hashlib.sha256(tarball.read_bytes()).hexdigest()
    wanted = replace(wanted, registry=replace(TARBALL, sha256=right))
    with pytest.raises(TransientError, match="is not the SSDLite-MobileNetV2 graph we know"):
        await Fetcher(tmp_path / "models", hub_url=NOWHERE).fetch(wanted)


async def test_what_npm_says_and_that_it_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path / "bin", "echo 'npm error code E404' >&2; exit 3", monkeypatch)
    fetcher = Fetcher(tmp_path / "models", hub_url=NOWHERE)
    with pytest.raises(TransientError, match="ended with 3: npm error code E404"):
        await fetcher.fetch(SSDLITE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TransientError, match="install npm"):
        await fetcher.fetch(SSDLITE)


async def test_a_cancelled_fetch_leaves_no_registry_client_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    script = f'echo $$ > "{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"; exec sleep 60'
    fake_npm(tmp_path / "bin", script, monkeypatch)
    task = asyncio.create_task(Fetcher(tmp_path / "models", hub_url=NOWHERE).fetch(SSDLITE))
    async with asyncio.timeout(10):
        while not pid_file.exists():  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(int(pid_file.read_text()))


# --- which detector it becomes --------------------------------------------------------------


async def test_the_fallback_detector_says_why_it_is_there(
    tmp_path: Path, ssdlite_dir: Path
) -> None:
    assert ssdlite_dir.is_relative_to(cache_folder())
    shutil.copytree(ssdlite_dir / "ssdlite", tmp_path / "ssdlite")
    fetcher = Fetcher(tmp_path, hub_url=NOWHERE)
    assert detector_in(tmp_path) == SSDLITE
    fetched = await fetcher.fetch_detector()
    assert fetched.artefact.fallback
    assert "RT-DETRv2" in fetched.problems[0]
    with pytest.raises(TransientError, match=r"RT-DETRv2.*cannot be had"):
        await fetcher.fetch_detector(allow_fallback=False)
    RTDETR.path(tmp_path).parent.mkdir()
    RTDETR.path(tmp_path).touch()
    assert detector_in(tmp_path) == RTDETR
