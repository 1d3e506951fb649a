"""`hsi evaluate detector`: what the fall-back is worth on real pictures, and the exit codes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.detect_process import DetectProcess
from support.models import demo_picture
from typer.testing import CliRunner, Result

from hsi.evaluate import PICTURES, app, read_labels
from inference.images import probe


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, ssdlite_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_MODELS_DIR", str(ssdlite_dir))
    monkeypatch.setenv("COLUMNS", "120")


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["detector", *arguments])


def labelled(folder: Path, **changed: Any) -> Path:
    """Make a folder with one labelled picture."""
    folder.mkdir()
    (folder / "porch.jpg").write_bytes(demo_picture("porch-1-01.jpg"))
    dog = {"labels": ["dog"], "x": 134, "y": 223, "width": 175, "height": 317}
    picture = {
        "file": "porch.jpg",
        "sha256": hashlib.sha256(demo_picture("porch-1-01.jpg")).hexdigest(),
        "objects": [dog],
        **changed,
    }
    (folder / "labels.json").write_text(json.dumps({"pictures": [picture]}))
    return folder


def test_the_fallback_reaches_recall_and_precision_at_the_default_threshold() -> None:
    """Issue 4, 8 (b): at least 15 real pictures with labelled objects, both at least 0.85."""
    result = evaluate("--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert (told["threshold"], told["overlap"], told["fallback"]) == (0.5, 0.5, True)
    assert told["recall"] >= 0.85
    assert told["precision"] >= 0.85
    assert told["passed"]
    assert told["total"]["found"] + told["total"]["missed"] == 60
    assert told["by_object"]["person"]["found"] >= 30


def test_the_labelled_pictures_are_as_the_docs_say() -> None:
    pictures = read_labels(PICTURES)
    assert len(pictures) == 20
    assert sum(bool(picture.objects) for picture in pictures) == 15
    for picture in pictures:
        header = probe((PICTURES / picture.file).read_bytes(), picture.file)
        for thing in (*picture.objects, *picture.ignored):
            assert min(thing.x, thing.y) >= 0
            assert thing.x + thing.width <= header.width + 1
            assert thing.y + thing.height <= header.height + 1
        # The rule by which objects were chosen: see ATTRIBUTION.md beside them.
        longest = max(header.width, header.height)
        assert all(max(o.width, o.height) >= 0.05 * longest for o in picture.objects)
    named = (PICTURES / "ATTRIBUTION.md").read_text()
    assert all(f"`{path.name}`" in named for path in PICTURES.glob("*.[jp][pn]g"))


def test_the_tables_say_what_was_missed_and_invented() -> None:
    result = evaluate()
    assert result.exit_code == 0
    lines = {line.split()[1]: line for line in result.output.splitlines() if line[:1] == "│"}
    assert "bird 0.99" in lines["squirrel.jpg"]
    assert lines["beach.jpg"].count("person") >= 2
    assert "ssdlite-mobilenetv2 tfjs-1.0.6 by embedded (the offline fall-back)" in result.output
    assert "good enough" in result.output


def test_too_low_is_exit_code_one() -> None:
    result = evaluate("--min-recall", "0.99")
    assert result.exit_code == 1
    assert "too low" in result.output
    assert evaluate("--threshold", "0.95", "--json").exit_code == 1


def test_a_folder_of_one_s_own_and_a_service_that_is_judged(
    tmp_path: Path, served_detector: DetectProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTDETR_URL", served_detector.url)
    folder = labelled(tmp_path / "own")
    result = evaluate("--pictures", str(folder), "--min-precision", "0.3", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["engine"] == "http"
    assert (told["recall"], told["total"]["wrong"]) == (1, 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sha256": "0" * 64}, "is not the picture that was labelled"),
        ({"file": "gone.jpg"}, "cannot be read: No such file"),
        ({"objects": []}, "labels no object"),
        ({"objects": [{"labels": ["dog"], "x": 0}]}, "is not a file of labels"),
        (
            {"objects": [{"labels": ["horse"], "x": 0, "y": 0, "width": 1, "height": 1}]},
            "'horse'; the labels are bicycle, bird, bus, car",
        ),
        (
            {"objects": [{"labels": ["dog"], "x": 0, "y": 0, "width": 0, "height": 1}]},
            "is not a file of labels",
        ),
    ],
)
def test_labels_that_are_not_right_are_named(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    result = evaluate("--pictures", str(labelled(tmp_path / "own", **changed)))
    assert said in str(result.exception)


def test_no_labels_and_no_detector_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "labels.json cannot be read" in str(evaluate("--pictures", str(tmp_path)).exception)
    monkeypatch.setenv("HSI_MODELS_DIR", str(tmp_path))
    assert "hsi models fetch detector" in str(evaluate().exception)
