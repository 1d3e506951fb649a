"""Installing into a Triton model repository: whole or not at all, and never over a version."""

import errno
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.rtdetr import deploy_graph as tiny_graph
from support.rtdetr import hugging_face_export
from typer.testing import CliRunner, Result

from domain.errors import PermanentError
from hsi.models import app
from inference.parity import Parity
from inference.repository import (
    TEMPLATES,
    VARIANTS,
    Candidate,
    PlanRecord,
    Repository,
    sha256_and_size,
)
from inference.version_policy import CONFIG, pinned_version


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_graph(floats=False))
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def install(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["install", *map(str, arguments)])


def test_a_model_is_laid_out_from_its_variant(repository: Repository, graph: Path) -> None:
    result = install(graph, "--variant", "cpu", "--repository", repository.folder)
    assert result.exit_code == 0, result.output
    model = repository.folder / "rtdetrv2"
    assert sorted(path.name for path in model.iterdir()) == ["1", CONFIG, "labels.txt"]
    version = model / "1"
    assert sorted(p.name for p in version.iterdir()) == ["manifest.json", "model.onnx", "model.py"]
    manifest = repository.manifest("rtdetrv2", 1)
    assert manifest is not None
    assert (manifest.sha256, manifest.size) == sha256_and_size(graph)
    assert manifest.variant == "cpu"
    assert repository.variant_of("rtdetrv2") == VARIANTS["cpu"]


def test_a_second_version_does_not_become_the_served_one(
    repository: Repository, graph: Path
) -> None:
    candidate = Candidate(graph, VARIANTS["onnx"])
    assert [repository.install(candidate, "m").version for _ in range(3)] == [1, 2, 3]
    assert pinned_version(repository.folder / "m" / CONFIG) == 1


def test_many_installations_at_once_get_a_version_each(
    repository: Repository, graph: Path
) -> None:
    candidate = Candidate(graph, VARIANTS["cpu"])
    threads = [
        threading.Thread(target=repository.install, args=(candidate, "m")) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert repository.versions("m") == (1, 2, 3, 4, 5, 6)
    names = {path.name for path in (repository.folder / "m").iterdir()}
    assert names == {*"123456", CONFIG, "labels.txt"}, "no draft is left over"


def test_a_disk_that_refuses_leaves_what_was_there(
    repository: Repository, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.install(Candidate(graph, VARIANTS["cpu"]), "m")
    before = (repository.folder / "m" / CONFIG).read_text()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PermanentError, match="No space left"):
        repository.install(Candidate(graph, VARIANTS["cpu"]), "m")
    assert repository.versions("m") == (1,)
    assert (repository.folder / "m" / CONFIG).read_text() == before
    assert sorted(p.name for p in (repository.folder / "m").iterdir()) == [
        "1",
        CONFIG,
        "labels.txt",
    ]


@pytest.mark.parametrize("name", ["../up", "", "A", "a/b", ".hidden", "x" * 65])
def test_a_model_s_name_cannot_lead_elsewhere(
    repository: Repository, graph: Path, name: str
) -> None:
    with pytest.raises(PermanentError, match="no model's name"):
        repository.install(Candidate(graph, VARIANTS["cpu"]), name)
    assert not repository.folder.exists()


def test_a_model_keeps_its_variant(repository: Repository, graph: Path) -> None:
    repository.install(Candidate(graph, VARIANTS["cpu"]), "m")
    with pytest.raises(PermanentError, match=r"is the variant cpu, not onnx: name another"):
        repository.install(Candidate(graph, VARIANTS["onnx"]), "m")


def test_a_graph_with_another_contract_is_refused(tmp_path: Path) -> None:
    for name, data in (("floats", tiny_graph(floats=True)), ("logits", hugging_face_export())):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        result = install(path, "--variant", "cpu", "--repository", tmp_path / "models")
        assert result.exit_code == 1
        assert "make it with `hsi models export`" in str(result.exception)
    assert not (tmp_path / "models").exists()


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"GGUF and so on", b"\x00" * 100):
        path = tmp_path / "x.onnx"
        path.write_bytes(data)
        result = install(path, "--variant", "onnx", "--repository", tmp_path / "models")
        assert "is not an ONNX file" in str(result.exception)


def test_the_product_s_own_folder_says_which_variant_a_file_must_be(graph: Path) -> None:
    result = install(graph, "--model", "rtdetrv2")
    assert result.exit_code == 1
    assert "is no .plan file, which the variant tensorrt serves" in str(result.exception)
    assert Repository(TEMPLATES).versions("rtdetrv2") == ()


def test_a_plan_is_only_taken_with_a_passed_gate(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    arguments = (plan, "--repository", tmp_path / "models")
    assert "nobody knows what model.plan is" in str(install(*arguments).exception)

    passed = Parity(
        pictures=8, compared=90, missing=0, surplus=0, worst_box_px=0.4, worst_score=0.01
    )
    failed = Parity(
        pictures=8, compared=90, missing=3, surplus=0, worst_box_px=0.4, worst_score=0.01
    )
    nothing = Parity(
        pictures=8, compared=0, missing=0, surplus=0, worst_box_px=0.0, worst_score=0.0
    )
    for parity in (None, failed, nothing):
        write_record(plan, parity)
        assert "has not passed its parity gate" in str(install(*arguments).exception)
    assert not (tmp_path / "models").exists()

    write_record(plan, passed)
    assert install(*arguments).exit_code == 0
    manifest = json.loads((tmp_path / "models" / "rtdetrv2" / "1" / "manifest.json").read_bytes())
    assert manifest["plan"]["gpu"] == "NVIDIA L4"
    assert manifest["plan"]["parity"]["compared"] == 90

    plan.write_bytes(b"another plan")
    assert "describes another file" in str(install(*arguments).exception)


def write_record(plan: Path, parity: Parity | None) -> None:
    from hsi.models.plan_record import write

    record = PlanRecord(
        weights="tiny",
        onnx_sha256="0" * 64,
        plan_sha256=sha256_and_size(plan)[0],
        tensorrt="10.13.0",
        gpu="NVIDIA L4",
        compute_capability="8.9",
        driver="570.1",
        max_batch=16,
        commands=("trtexec …",),
        built_at=datetime.now(UTC),
        parity=parity,
    )
    write(plan, record)
