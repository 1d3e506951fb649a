"""Honest degradation: while the detector is away pictures wait, shown so; nothing is made up."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from support.histories import assessed, image, seen
from support.logs import Stage, all_of, new, quick, until
from support.serving import Served, served
from support.serving import until as hear

from agents.services import ServiceWatch
from domain.errors import ServiceUnavailableError
from domain.events import ObjectsDetected, ServiceStateChanged
from domain.outcomes import Done, Outcome
from streams.channel import ChannelOptions
from streams.envelope import Envelope

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]

PICTURES = 50


class Detector:
    """Answers one box-less detection a picture, or nothing at all while it is off."""

    on = False

    async def check(self) -> str:
        if not self.on:
            raise ServiceUnavailableError("detector", "connection refused")
        return "tiny answers"

    async def __call__(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        await self.check()
        return [Done((seen(envelope.event),)) for envelope in envelopes]


async def detect_stage(api: Served) -> dict[str, object]:
    health = await api.json("/api/system/health")
    stage: dict[str, object] = next(s for s in health["stages"] if s["stage"] == "detect")
    return stage


async def test_pictures_wait_for_the_detector_and_keep_their_times(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    detector = Detector()
    pictures = [image(number) for number in range(PICTURES)]
    async with served(valkey_url, database_url, tmp_path, projecting=True) as api:
        watch = ServiceWatch(api.log, "detector", detector.check)
        options = ChannelOptions(run_size=8, on_state=watch.gate_of("detect"))
        # given the detector off while pictures arrive
        await api.log.append_all([new(picture) for picture in pictures])
        async with Stage(api.log, "detect", "one", options, handler=detector):
            await until(lambda: watch._paused == {"detect"})
            await watch._tell()

            async def shown_as_paused() -> bool:
                return (await detect_stage(api))["gate"] == "closed"

            await until(shown_as_paused)
            # then all of them are pending and seen to be, ever older, and nothing was made up
            before = await detect_stage(api)
            assert before["waits_for"] == "detector"
            assert before["clears_in_seconds"] is None
            assert before["pending"] + before["processing"] == PICTURES  # type: ignore[operator]
            assert (await detect_stage(api))["oldest_seconds"] > before["oldest_seconds"]  # type: ignore[operator]
            assert await all_of(api.log, "detections") == []
            assert (await api.json("/api/events"))["count"] == 0
            # and when it is on again, every picture is seen, with the time it was taken
            detector.on = True
            await until(lambda: watch._paused == frozenset())
            await watch._tell()

            async def done() -> bool:
                stage = await detect_stage(api)
                return stage["gate"] == "open" and stage["clears_in_seconds"] == 0

            await until(done)
        found = [e.event for e in await all_of(api.log, "detections")]
        times = {e.picture_id: e.captured_at for e in found if isinstance(e, ObjectsDetected)}
        assert len(found) == PICTURES
        assert times == {p.picture_id: p.captured_at for p in pictures}
        told = [e.event for e in await all_of(api.log, "system")]
        assert [e.paused_stages for e in told if isinstance(e, ServiceStateChanged)] == [
            ("detect",),
            (),
        ]


async def test_what_was_assessed_long_after_it_happened_is_marked_late(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    late = assessed(image(1))
    async with served(valkey_url, database_url, tmp_path, projecting=True) as api:
        async with api.client.ws_connect("/ws/events") as socket:
            await hear(socket, "hello")
            first = await api.log.append(new(late))
            now = first.recorded_at - timedelta(seconds=30)
            fresh = assessed(image(2))
            fresh = msgspec.structs.replace(
                fresh, started_at=now, ended_at=now, event_id="evt_now"
            )
            await api.log.append(new(fresh, "fresh"))
            told = [(await hear(socket, "event"))["data"] for _ in range(2)]
        assert {each["event_id"]: each["late"] for each in told} == {
            late.event_id: True,
            "evt_now": False,
        }

        async def both() -> bool:
            return int((await api.json("/api/events"))["count"]) == 2

        await until(both)
        events = (await api.json("/api/events"))["events"]
        assert {each["id"]: each["late"] for each in events} == {
            late.event_id: True,
            "evt_now": False,
        }
        assert (await api.json(f"/api/events/{late.event_id}"))["late"] is True
