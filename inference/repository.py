"""A Triton model repository on disk: the variants of rtdetrv2, and installing a version of one.

A version is a folder with a number, whole from the moment it has its name and never written to
again; its `manifest.json` says what it holds. The repository may be the product's own
`triton_models/` or any other folder; a model that is not there yet is laid out from
`triton_models/`, under any name, because the configurations carry none.

The steps of one installation, in this order:

1. Check the file; take the model's lock.
2. Copy it, and what the variant needs beside it, into a hidden folder; sync it to the disk.
3. Keep serving what is served: pin the version in force, so that a reload does not switch.
4. Rename the hidden folder to the next free number.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from domain.errors import PermanentError
from inference.parity import Parity
from inference.version_policy import CONFIG, pin, pinned_version
from runtime.settings import PROJECT_ROOT

TEMPLATES: Final = PROJECT_ROOT / "triton_models"
MANIFEST: Final = "manifest.json"
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NO_WEIGHTS = 'parameters { key: "weights" value: { string_value: "" } }'
_WEIGHTS_TEXT = re.compile(r"[\w.:@+-]{0,100}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way in which Triton runs rtdetrv2."""

    name: str
    template: str
    """Folder in triton_models/."""
    file: str
    """Name of the weights' file in a version's folder."""
    marks: str
    """What its config.pbtxt, and no other variant's, says."""
    beside: tuple[str, ...] = ()
    """Files of the template that each version needs beside the weights."""


VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant("tensorrt", "rtdetrv2", "model.plan", 'platform: "tensorrt_plan"'),
        Variant("onnx", "rtdetrv2_onnx", "model.onnx", 'backend: "onnxruntime"'),
        Variant("cpu", "rtdetrv2_cpu", "model.onnx", 'backend: "python"', ("model.py",)),
    )
}


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a TensorRT plan was built, and how it compared to the graph it was built from."""

    weights: str
    onnx_sha256: str
    plan_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    max_batch: int
    commands: tuple[str, ...]
    built_at: datetime
    parity: Parity | None = None


class VersionManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version's folder holds."""

    model: str
    variant: str
    version: int
    file: str
    sha256: str
    size: int
    source: str
    weights: str
    installed_at: datetime
    plan: PlanRecord | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that shall become a version."""

    path: Path
    variant: Variant
    weights: str = ""
    """Which weights it was made from, for people."""
    plan: PlanRecord | None = None


class Repository:
    """One model repository's folder."""

    def __init__(self, folder: Path, templates: Path = TEMPLATES) -> None:
        self.folder = folder
        self._templates = templates

    def variant_of(self, model: str) -> Variant | None:
        """Return which variant a model's configuration is; None where there is no such model."""
        try:
            text = (self._model(model) / CONFIG).read_text()
        except FileNotFoundError:
            return None
        for variant in VARIANTS.values():
            if re.search(rf"^\s*{re.escape(variant.marks)}", text, re.MULTILINE):
                return variant
        known = ", ".join(variant.marks for variant in VARIANTS.values())
        raise PermanentError(f"{self._model(model) / CONFIG} is no variant of rtdetrv2: {known}")

    def versions(self, model: str) -> tuple[int, ...]:
        """Return the numbers of the versions that lie there, lowest first."""
        folder = self._model(model)
        found = folder.iterdir() if folder.is_dir() else ()
        return tuple(sorted(int(path.name) for path in found if path.name.isdecimal()))

    def manifest(self, model: str, version: int) -> VersionManifest | None:
        """Return what a version says about itself; None for one that was put there by hand."""
        path = self._model(model) / str(version) / MANIFEST
        try:
            return msgspec.json.decode(path.read_bytes(), type=VersionManifest)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise PermanentError(f"{path} cannot be read: {error}") from error

    def install(self, candidate: Candidate, model: str) -> VersionManifest:
        """Make a candidate the model's next version; nothing that is served changes.

        Raises PermanentError for a model of another variant, and for a folder or disk that
        refuses.
        """
        try:
            if self.variant_of(model) is None:
                self._lay_out(model, candidate)
            return self._install(candidate, model)
        except OSError as error:
            raise PermanentError(
                f"{candidate.path} cannot be installed into {self.folder}: {error}"
            ) from error

    def _install(self, candidate: Candidate, model: str) -> VersionManifest:
        folder = self._model(model)
        there = self.variant_of(model)
        if there != candidate.variant:
            raise PermanentError(
                f"{folder} is the variant {there.name if there else 'of nothing'}, not "
                f"{candidate.variant.name}: name another --model or --repository"
            )
        with _locked(folder):
            versions = self.versions(model)
            number = versions[-1] + 1 if versions else 1
            draft = Path(tempfile.mkdtemp(prefix=".installing-", dir=folder))
            try:
                manifest = self._fill(draft, candidate, model, number)
                self._keep_serving(model, versions)
                draft.chmod(0o755)
                draft.rename(folder / str(number))
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            _sync(folder)
        return manifest

    def _fill(self, draft: Path, candidate: Candidate, model: str, number: int) -> VersionManifest:
        variant = candidate.variant
        weights = draft / variant.file
        shutil.copyfile(candidate.path, weights)
        for name in variant.beside:
            shutil.copyfile(self._templates / variant.template / name, draft / name)
        sha256, size = sha256_and_size(weights)
        if candidate.plan is not None and candidate.plan.plan_sha256 != sha256:
            raise PermanentError(f"{candidate.path} is not the plan that its record describes")
        manifest = VersionManifest(
            model=model,
            variant=variant.name,
            version=number,
            file=variant.file,
            sha256=sha256,
            size=size,
            source=str(candidate.path.absolute()),
            weights=candidate.weights,
            installed_at=datetime.now(UTC),
            plan=candidate.plan,
        )
        (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        for path in (*draft.iterdir(), draft):
            _sync(path)
        return manifest

    def _keep_serving(self, model: str, versions: tuple[int, ...]) -> None:
        config = self._model(model) / CONFIG
        if versions and pinned_version(config) is None:
            pin(config, versions[-1])

    def _lay_out(self, model: str, candidate: Candidate) -> None:
        """Make the model's folder from its variant's template, in one rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        source = self._templates / candidate.variant.template
        draft = Path(tempfile.mkdtemp(prefix=".laying-out-", dir=self.folder))
        try:
            config = (source / CONFIG).read_text()
            if _WEIGHTS_TEXT.fullmatch(candidate.weights):
                config = config.replace(
                    _NO_WEIGHTS, _NO_WEIGHTS.replace('""', f'"{candidate.weights}"')
                )
            (draft / CONFIG).write_text(config)
            shutil.copyfile(source / "labels.txt", draft / "labels.txt")
            draft.chmod(0o755)
            draft.rename(self._model(model))
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if self.variant_of(model) is None:
                raise
            # Another process laid the same model out a moment ago.

    def _model(self, model: str) -> Path:
        if not _MODEL_NAME.fullmatch(model):
            raise PermanentError(
                f"{model!r} is no model's name: 1 to 64 of a-z, 0-9, _, . and -, a letter or "
                "digit first"
            )
        return self.folder / model


def sha256_and_size(path: Path) -> tuple[str, int]:
    """Return a file's checksum in hex and its size in bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
