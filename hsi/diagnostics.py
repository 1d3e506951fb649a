"""`hsi diagnostics`: what a report of a problem needs, as one archive without secrets."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from domain.errors import HsiError
from hsi.remote import AnswerError, Remote, Url
from runtime.bundle import LOG_LINES, Part, bundle, effective, log_lines, versions
from runtime.children import tail
from runtime.settings import Settings, load_settings

_README: Final = """\
Diagnostics of {product}, made {at} by `hsi diagnostics` without the API:
{why}

gpu.json       what NVML says of this machine's GPUs
versions.json  product, Python, operating system, packages
config.json    every setting as the command line reads it, and where it came from
log.jsonl      the last {lines} lines of LOG_FILE_PATH
processes/     the last {lines} lines that each process of `hsi up` has said

Health, services, ledger, read models and dead letters are known to the API alone.
Secrets are masked. Names of cameras and of files are in it: look before you pass it on.
"""


def diagnostics(
    output: Annotated[
        Path | None,
        typer.Option(help="The archive's file; else hsi-diagnostics-TIME.tar.gz here."),
    ] = None,
    url: Url = None,
) -> None:
    """Write one archive for a report of a problem; secrets are masked.

    Holds health, services, GPU, versions, settings, the last 100 log records, ledger, read models
    and dead letters. Where the API does not answer, it holds what this machine can tell alone.
    Shows HSI_API_KEY, or the first of API_KEYS, which must be an administrator's.

    Ends with 0; with 3 when the API did not answer; with 1 when it refused, or the file cannot be
    written.

    Examples: `hsi diagnostics` · `hsi diagnostics --output report.tar.gz`
    """
    path = output or Path(f"hsi-diagnostics-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    why = ""
    try:
        packed = Remote(url).fetch("/api/system/diagnostics")
    except AnswerError:
        raise
    except HsiError as error:
        why = str(error)
        settings = load_settings()
        packed = bundle(_here(settings, why), settings.secrets | _embedded(settings))
    try:
        path.touch(0o600)
        path.write_bytes(packed)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}; name another file with --output"
        raise HsiError(msg) from error
    print(path)
    if why:
        typer.echo(f"without the API: {why}", err=True)
        raise typer.Exit(3)


def _here(settings: Settings, why: str) -> dict[str, Part]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    product = f"{settings.app_name} {settings.app_version}"
    said = {
        f"processes/{log.name}": tail(log, LOG_LINES) + "\n"
        for log in sorted((settings.state_dir / "logs").glob("*.log"))
    }
    return {
        "README.txt": _README.format(product=product, at=at, why=why, lines=LOG_LINES),
        "gpu.json": _gpus(),
        "versions.json": versions(settings),
        "config.json": effective(settings),
        "log.jsonl": _lines(settings.log_file_path),
        **said,
    }


def _gpus() -> Part:
    # Imported here: the common way asks the API, which knows.
    from inference.gpu import open_gpu_probe

    probe = open_gpu_probe()
    try:
        return {"source": probe.source, "gpus": msgspec.to_builtins(probe.read())}
    finally:
        probe.close()


def _lines(path: Path) -> str:
    try:
        return log_lines(path)
    except OSError as error:
        return f"LOG_FILE_PATH={path} cannot be read: {error.strerror}\n"


def _embedded(settings: Settings) -> frozenset[str]:
    """Return the embedded servers' password, which no setting holds."""
    found = set()
    for name in ("secret", "llm.key"):
        with suppress(OSError):
            found.add((settings.state_dir / name).read_text(encoding="utf-8").strip())
    return frozenset(found - {""})
