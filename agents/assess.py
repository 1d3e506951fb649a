"""BatchEscalated and BatchClosed become RiskAssessed: by rules alone, at once."""

from typing import Protocol
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from domain.events import BatchClosed, BatchEscalated
from domain.outcomes import Done, Outcome
from domain.risk import Bands, CameraView, assess
from streams.envelope import Envelope


class CameraDirectory(Protocol):
    """Knows every camera as the log last described it."""

    def view(self, camera_id: str) -> CameraView:
        """Return the camera; one that was never described gets its id as a name."""
        ...


class Assess:
    """Handler of the `batches` stream."""

    def __init__(
        self,
        cameras: CameraDirectory,
        timezone: ZoneInfo,
        bands: Bands,
        alert_within_seconds: int | None = None,
    ) -> None:
        self._cameras = cameras
        self._timezone = timezone
        self._bands = bands
        self._alert_within_seconds = alert_within_seconds
        """LATE_ALERT_MAX_AGE_SECONDS; each assessment says which one it was made with."""

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Assess a batch that escalated or closed; every other event of the stream is done."""
        match envelope.event:
            case BatchEscalated() | BatchClosed() as batch:
                camera = self._cameras.view(batch.camera_id)
                assessed = assess(batch, camera, self._timezone, self._bands)
                return Done((replace(assessed, alert_within_seconds=self._alert_within_seconds),))
            case _:
                return Done()
