"""`hsi models fetch` against a hub: what a person reads when it is right, wrong, or breaks off."""

import asyncio
import hashlib
import shutil
from pathlib import Path

import pytest
from support.hub import CONTENT, Hub
from typer.testing import CliRunner, Result

from hsi.models import app
from inference import weights
from inference.weights import RTDETR, Artefact, HubFile

TINY = Artefact(
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


@pytest.fixture(autouse=True)
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the command up with an empty models folder and no registry clients."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(weights.CATALOGUE, "tiny", TINY)
    return tmp_path / "models"


async def hsi_models(hub: str, *arguments: str) -> Result:
    def run() -> Result:
        return CliRunner().invoke(app, arguments, env={"MODEL_HUB_URL": hub})

    return await asyncio.to_thread(run)


async def test_a_model_comes_from_the_hub_whole_and_verified(models_dir: Path) -> None:
    hub = Hub()
    async with hub.running() as url:
        hub.cut_after = 100_000
        broken = await hsi_models(url, "fetch", "tiny")
        assert broken.exit_code == 1
        assert "the next fetch goes on behind byte" in broken.output
        hub.cut_after = None
        fetched = await hsi_models(url, "fetch", "tiny")
        assert fetched.exit_code == 0
        assert "ready Tiny model, version 1, 0.3 MB" in fetched.output
        again = await hsi_models(url, "fetch", "tiny")
        assert again.exit_code == 0
    assert len(hub.requests) == 2
    assert (models_dir / "tiny" / "model.gguf").read_bytes() == CONTENT
    listed = await hsi_models("http://127.0.0.1:9", "list", "--verify")
    assert any("tiny" in line and "verified" in line for line in listed.output.splitlines())


async def test_a_detector_with_a_wrong_checksum_is_not_used_and_the_fallback_is_named(
    models_dir: Path, ssdlite_dir: Path
) -> None:
    shutil.copytree(ssdlite_dir / "ssdlite", models_dir / "ssdlite")
    assert RTDETR.hub is not None
    hub = Hub(b"not the weights", RTDETR.hub.url(""))
    async with hub.running() as url:
        fetched = await hsi_models(url, "fetch", "detector")
        assert fetched.exit_code == 0
        assert "has the checksum" in fetched.output
        assert "runs on the fall-back SSDLite-MobileNetV2" in fetched.output
        refused = await hsi_models(url, "fetch", "detector", "--no-fallback")
        assert refused.exit_code == 1
        assert "it is not used" in refused.output
    assert not RTDETR.path(models_dir).exists()
