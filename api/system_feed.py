"""What /ws/system tells besides the log: the system's state now, every GPU poll."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from api.broadcast import Channel, Listener
from api.gpu_history import GpuHistory, sample_rows
from api.health import check_health
from api.messages import ServiceData, ServiceMessage
from api.outgoing import encoded, text_frame
from api.schemas import (
    CameraCount,
    GpuAnswer,
    QueueDepth,
    StageBacklog,
    SystemMessage,
    SystemStatus,
)
from api.services import ApiServices
from domain.errors import TransientError
from domain.events import SYSTEM
from domain.gpu_memory import pressure_of

logger = logging.getLogger(__name__)


class ServiceSnapshot(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="service_status"
):
    """A service's state when the client connected; it has no cursor since it is no event."""

    TOPIC: ClassVar[str] = ServiceMessage.TOPIC
    data: ServiceData


News = SystemMessage | ServiceSnapshot
"""What is told beside the log."""


class SystemFeed:
    """Offers `system_status` to the clients of /ws/system; asks nobody while there are none."""

    def __init__(self, services: ApiServices, channel: Channel) -> None:
        self._services = services
        self._channel = channel

    async def run(self) -> None:
        """Offer the state every GPU poll, for ever, on a beat as fixed as the monitor's."""
        clock = asyncio.get_running_loop().time
        beat = clock()
        while True:
            beat = max(beat + self._interval(), clock())
            await asyncio.sleep(beat - clock())
            if not self._channel.listeners:
                continue
            message = await self._status()
            for listener in tuple(self._channel.listeners):
                if listener.hears(SystemMessage.TOPIC, SYSTEM):
                    listener.offer(message)

    def _interval(self) -> float:
        live, started = self._services.live, self._services.config.gpu_poll_interval_seconds
        changed = "gpu_poll_interval_seconds" in live.changed.values
        return live.current.gpu_poll_interval_seconds if changed else started

    async def greet(self, listener: Listener) -> None:
        """Offer a new client the state now and every service's state."""
        listener.offer(await self._status())
        for row in self._services.states.rows():
            data = ServiceData(
                service=row.service,
                status=row.status,
                message=row.message,
                changed_at=row.changed_at,
                paused_stages=None if row.paused_stages is None else tuple(row.paused_stages),
            )
            listener.offer(_framed(ServiceSnapshot(data=data)))

    async def _status(self) -> bytes:
        services = self._services
        health = await check_health(services)
        status = SystemStatus(
            gpu=gpu_answer(services.gpu, services.rates.of("detect").handled_per_second),
            cameras=await self._cameras(),
            queue=_depth(health.stages),
            stages=health.stages,
            health=health.status,
        )
        return _framed(SystemMessage(data=status, timestamp=datetime.now(UTC)))

    async def _cameras(self) -> CameraCount | None:
        try:
            rows = await self._services.queries.cameras()
        except TransientError:
            return None
        return CameraCount(active=sum(row.enabled for row in rows), total=len(rows))


def _framed(message: News) -> bytes:
    return text_frame(encoded(message))


def _depth(stages: list[StageBacklog]) -> QueueDepth | None:
    if not stages:
        return None
    clears = [stage.clears_in_seconds for stage in stages]
    return QueueDepth(
        pending=sum(stage.pending for stage in stages),
        processing=sum(stage.processing for stage in stages),
        oldest_seconds=max(
            (stage.oldest_seconds for stage in stages if stage.oldest_seconds is not None),
            default=None,
        ),
        clears_in_seconds=None
        if None in clears
        else max(seconds for seconds in clears if seconds is not None),
        paused_stages=[stage.stage for stage in stages if stage.gate == "closed"],
    )


def gpu_answer(history: GpuHistory, inference_fps: float | None) -> GpuAnswer:
    """Return the newest readings; the first GPU's also in the specification's names."""
    samples = history.newest()
    gpus = [row for sample in samples for row in sample_rows(sample)]
    newest = max((sample.sampled_at for sample in samples), default=None)
    if not gpus:
        return GpuAnswer(source="none", recorded_at=newest, inference_fps=inference_fps, gpus=[])
    first = gpus[0]
    return GpuAnswer(
        source="nvml",
        recorded_at=newest,
        memory_pressure=pressure_of(gpu for sample in samples for gpu in sample.gpus),
        inference_fps=inference_fps,
        gpus=gpus,
        gpu_name=first.name,
        utilization=first.utilization_percent,
        memory_used=first.memory_used_mib,
        memory_total=first.memory_total_mib,
        temperature=first.temperature_celsius,
        power_usage=first.power_watts,
    )
