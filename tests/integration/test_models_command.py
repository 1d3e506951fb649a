"""`hsi models`: what a person reads and the exit code a script gets."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hsi.models import app


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the command up with an empty models folder, no hub and no registry clients."""
    folder = tmp_path / "models"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_MODELS_DIR", str(folder))
    monkeypatch.setenv("MODEL_HUB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path))
    return folder


def hsi_models(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_an_empty_folder_says_what_to_do(models_dir: Path) -> None:
    result = hsi_models("list")
    assert result.exit_code == 0
    assert str(models_dir) in result.output
    assert "No detector is here: run `hsi models fetch detector`" in result.output
    for name in ("rtdetrv2", "ssdlite", "qwen2.5-coder-1.5b"):
        assert any(name in line and "absent" in line for line in result.output.splitlines())


def test_a_detector_that_cannot_be_had_is_an_error(models_dir: Path) -> None:
    result = hsi_models("fetch", "detector")
    assert result.exit_code == 1
    assert "not fetched" in result.output
    assert "install npm" in result.output


def test_the_fallback_is_named_as_such(models_dir: Path, ssdlite_dir: Path) -> None:
    shutil.copytree(ssdlite_dir / "ssdlite", models_dir / "ssdlite")
    result = hsi_models("fetch", "detector")
    assert result.exit_code == 0
    assert "RT-DETRv2-S (ResNet-18), COCO cannot be had" in result.output
    assert "runs on the fall-back SSDLite-MobileNetV2" in result.output
    assert hsi_models("fetch", "detector", "--no-fallback").exit_code == 1
    assert "verified" in hsi_models("list", "--verify").output


def test_a_damaged_file_is_found(models_dir: Path, ssdlite_dir: Path) -> None:
    shutil.copytree(ssdlite_dir / "ssdlite", models_dir / "ssdlite")
    with (models_dir / "ssdlite" / "model.onnx").open("rb+") as file:
        file.seek(1000)
        file.write(b"damage")
    assert "present" in hsi_models("list").output
    result = hsi_models("list", "--verify")
    assert result.exit_code == 1
    assert "damaged" in result.output


def test_an_unknown_name_lists_the_known_ones(models_dir: Path) -> None:
    result = hsi_models("fetch", "yolo")
    assert result.exit_code == 2
    assert "smollm2-135m" in result.output
