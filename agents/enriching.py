"""Puts the enrich stage's handlers together: the adapters of the services that are configured."""

from contextlib import AsyncExitStack

from agents.detect import PictureSource
from agents.enrich import Attributes, Captions, Cutter, Enrich, Looks, Part
from inference.enrichment import AttributeReader, ClipEmbedder, FlorenceCaptioner
from inference.gpu import open_gpu_probe
from inference.pressure import GpuMemoryPressure
from runtime.settings import Settings


def open_parts(
    settings: Settings, pictures: PictureSource, contexts: AsyncExitStack
) -> dict[str, Enrich]:
    """Return a handler for each configured service; `contexts` closes what they use."""
    timeouts = {
        "connect_timeout": settings.ai_connect_timeout,
        "health_timeout": settings.ai_health_timeout,
    }
    ca, cutter = settings.ai_ca_path, Cutter(pictures)
    parts: list[Part] = []
    if settings.florence_url is not None:
        parts.append(Captions(FlorenceCaptioner(settings.florence_url, ca, **timeouts), cutter))
    if settings.clip_url is not None:
        clip = ClipEmbedder(settings.clip_url, ca, **timeouts)
        threshold, hours = settings.reid_similarity_threshold, settings.reid_window_hours
        parts.append(Looks(clip, cutter, threshold, hours))
    if settings.enrichment_url is not None:
        parts.append(Attributes(AttributeReader(settings.enrichment_url, ca, **timeouts), cutter))
    for part in parts:
        contexts.push_async_callback(part.client.close)
    pressure = GpuMemoryPressure(open_gpu_probe)
    contexts.push_async_callback(pressure.close)
    return {part.service: Enrich(part, pressure) for part in parts}
