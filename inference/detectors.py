"""Picks the Detector adapter by the URL's scheme; only the chosen one's libraries are loaded."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from domain.errors import PermanentError
from inference.ports import Detector


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """What the adapters need to know; each takes its own part."""

    models_dir: Path
    """Where the embedded detector's weights lie."""
    threads: int = 1
    """CPU threads of the embedded detector."""
    allow_fallback: bool = True
    """Whether the embedded detector may run the weaker offline model."""
    triton_model: str = "rtdetrv2"
    max_batch: int = 16
    """Pictures that one request to Triton may carry; the model's own limit may be lower."""
    ca_path: Path | None = None
    """PEM file of the authority behind an encrypted detector; None takes the system's."""
    repair: bool = True
    """Whether a Triton model whose process died may be loaded anew."""
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    health_timeout: float = 5.0


def open_detector(url: str | None, options: DetectorOptions) -> Detector:
    """Return the detector that `url` names: grpc(s) is Triton, http(s) /detect, None embedded.

    Nothing is connected or loaded yet. Call it inside the running event loop.
    """
    scheme = urlsplit(url).scheme if url else None
    if url is None or scheme is None:
        from inference.embedded_detector import EmbeddedDetector

        return EmbeddedDetector(
            options.models_dir, threads=options.threads, allow_fallback=options.allow_fallback
        )
    if scheme in ("grpc", "grpcs"):
        from inference.triton import TritonDetector, TritonOptions

        return TritonDetector(
            url,
            TritonOptions(
                model=options.triton_model,
                max_batch=options.max_batch,
                connect_timeout=options.connect_timeout,
                read_timeout=options.read_timeout,
                health_timeout=options.health_timeout,
                ca_path=options.ca_path,
                repair=options.repair,
            ),
        )
    if scheme in ("http", "https"):
        from inference.http_detector import HttpDetector

        return HttpDetector(
            url,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            health_timeout=options.health_timeout,
            ca_path=options.ca_path,
        )
    raise PermanentError(
        f"RTDETR_URL={url} names no detector: write grpc://host:8001 (Triton), "
        "http://host:8090 (/detect), or leave it unset for the embedded detector"
    )
