"""`hsi models install`: a file becomes a model's next version in a Triton model repository."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from domain.errors import PermanentError
from hsi.models import plan_record
from inference import deploy_graph
from inference.repository import (
    TEMPLATES,
    VARIANTS,
    Candidate,
    Repository,
    Variant,
    VersionManifest,
)

RepositoryFolder = Annotated[
    Path, typer.Option("--repository", help="Folder that Triton serves; unset: triton_models/.")
]


def install(
    file: Annotated[Path, typer.Argument(help="model.onnx of `export`, or model.plan of `plan`.")],
    model: Annotated[str, typer.Option(help="The model's folder in the repository.")] = "rtdetrv2",
    variant: Annotated[
        str | None, typer.Option(help="tensorrt, onnx or cpu; unset: what the model's folder is.")
    ] = None,
    repository: RepositoryFolder = TEMPLATES,
) -> None:
    """Copy a file into a new version's folder, whole or not at all; versions never change.

    Nothing that Triton serves changes: `hsi models promote` does that. A plan is only taken with
    the record of a passed parity gate beside it. Ends with 0, or with 1 when the file is refused.

    Examples: `hsi models install rtdetrv2.onnx --model rtdetrv2_cpu` ·
    `hsi models install rtdetrv2.onnx --variant cpu --repository /srv/models`
    """
    target = Repository(repository)
    manifest = target.install(candidate(file, _variant(target, model, variant, file)), model)
    tell(manifest, target)


def candidate(file: Path, variant: Variant) -> Candidate:
    """Return the file as a candidate for this variant; PermanentError where it is none."""
    if not file.is_file():
        raise PermanentError(f"{file} is not there: make it with `hsi models export` or `plan`")
    if Path(variant.file).suffix != file.suffix:
        raise PermanentError(
            f"{file} is no {Path(variant.file).suffix} file, which the variant {variant.name} "
            "serves: name another --variant, or build a plan with `hsi models plan`"
        )
    if variant.name != "tensorrt":
        return Candidate(file, variant, deploy_graph.check(file))
    record = plan_record.read(file)
    if record.parity is None or not record.parity.holds:
        raise PermanentError(
            f"{file} has not passed its parity gate: run `hsi models plan` with --url of a Triton "
            "that has the TensorRT backend"
        )
    return Candidate(file, variant, record.weights, record)


def tell(manifest: VersionManifest, target: Repository) -> None:
    """Say what was installed and what comes next."""
    Console().print(
        f"[green]installed[/] {manifest.model} version {manifest.version} ({manifest.variant}, "
        f"weights {manifest.weights or 'unnamed'}, {manifest.size / 1e6:,.1f} MB, sha256 "
        f"{manifest.sha256[:12]}…)\n"
        f"      {target.folder / manifest.model / str(manifest.version)}\n"
        f"      next: `hsi models promote {manifest.version} --model {manifest.model}`",
        highlight=False,
        soft_wrap=True,
    )


def _variant(target: Repository, model: str, named: str | None, file: Path) -> Variant:
    if named is not None and named not in VARIANTS:
        raise typer.BadParameter(
            f"{named} is none of: {', '.join(VARIANTS)}", param_hint="VARIANT"
        )
    if named is not None:
        return VARIANTS[named]
    by_suffix = VARIANTS["tensorrt" if file.suffix == ".plan" else "onnx"]
    return target.variant_of(model) or by_suffix
