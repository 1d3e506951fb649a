"""The enrich stage's decisions: what is shown, what is said when nothing can be, who may run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.histories import NOON
from support.serving import drawn

from agents.app import ROLES
from agents.enrich import Attributes, Captions, Cutter, Enrich, Looks, Part
from domain import ids
from domain.enrichment import MOST_OBJECTS, clean_caption, objects_of, telling_picture
from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.events import (
    Attribute,
    Baseline,
    BatchClosed,
    BatchMember,
    Box,
    EventCaptioned,
    EventNotEnriched,
    GpuReading,
    ObjectsDescribed,
    ObjectsEmbedded,
    PictureBatched,
)
from domain.outcomes import Done, Outcome, Retry
from hsi import plan
from inference import crops, images
from inference.enrichment_ports import BadAnswerError, Captioned, Described, Embedded
from inference.ports import ModelIdentity
from inference.pressure import GpuMemoryPressure
from runtime.settings import Settings
from streams.envelope import Envelope, Position

PICTURE = drawn(640, 480)
IDENTITY = ModelIdentity("stub", "1", "http")
RECORDED = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


def box(label: str, score: float = 0.9, x: float = 100, width: float = 80) -> Box:
    return Box(label=label, score=score, x=x, y=100, width=width, height=120)


def member(number: int, *boxes: Box) -> BatchMember:
    at = NOON + timedelta(seconds=number)
    picture = ids.picture_id("porch", sha256(PICTURE).hexdigest(), at)
    return BatchMember(
        picture_id=picture,
        file_id=f"file_{number}",
        uri=f"camera:porch/{number}.jpg",
        captured_at=at,
        width=640,
        height=480,
        detections=boxes,
    )


def closed(*members: BatchMember) -> BatchClosed:
    batch = ids.batch_id("porch", members[0].picture_id)
    return BatchClosed(
        camera_id="porch",
        batch_id=batch,
        event_id=ids.event_id(batch),
        started_at=members[0].captured_at,
        ended_at=members[-1].captured_at,
        members=members,
        reason="idle",
        baseline=Baseline(),
    )


def envelope(event: Any) -> Envelope:
    return Envelope(
        id="e_1",
        event=event,
        stream="batches",
        partition=0,
        position=Position(int(RECORDED.timestamp() * 1000), 0),
        occurred_at=RECORDED,
        correlation_id="c",
        causation_id="",
    )


def size_of(jpeg: bytes) -> tuple[int, int]:
    header = images.probe(jpeg, "crop")
    return header.width, header.height


class Pictures:
    """A store that has one picture, or an error."""

    def __init__(self, error: Exception | None = None, data: bytes = PICTURE) -> None:
        self.error, self.data = error, data

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        if self.error:
            raise self.error
        return self.data


class Model:
    """All three services; raises what it is given."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.sent: list[bytes] = []
        self.identities = [IDENTITY]

    def _answer(self, jpeg: bytes) -> ModelIdentity:
        self.sent.append(jpeg)
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return self.identities[min(len(self.sent), len(self.identities)) - 1]

    async def caption(self, jpeg: bytes) -> Captioned:
        return Captioned("a person", self._answer(jpeg))

    async def embed(self, jpeg: bytes) -> Embedded:
        return Embedded(b"\1\0" * 16, self._answer(jpeg))

    async def describe(self, jpeg: bytes, label: str) -> Described:
        return Described((Attribute(name="kind", value=label),), self._answer(jpeg))

    async def check(self) -> ModelIdentity:
        return IDENTITY

    async def close(self) -> None:
        pass


class Free:
    """Nothing is pressed, or everything is."""

    def __init__(self, excuse: str | None = None) -> None:
        self.why = excuse

    async def excuse(self) -> str | None:
        return self.why


PARTS: dict[str, Callable[[Model, Pictures], Part]] = {
    "florence": lambda model, pictures: Captions(model, Cutter(pictures)),
    "clip": lambda model, pictures: Looks(model, Cutter(pictures), 0.85, 24.0),
    "enrichment": lambda model, pictures: Attributes(model, Cutter(pictures)),
}
Parts = Callable[[Model, Pictures], Part]
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


async def outcome(
    part: Parts, model: Model, pictures: Pictures | None = None, batch: BatchClosed | None = None
) -> Done | Retry:
    handler = Enrich(part(model, pictures or Pictures()), Free())
    event = batch or closed(member(0, box("person")))
    found = await handler(envelope(event))
    assert isinstance(found, Done | Retry)
    return found


def only(found: Outcome) -> Any:
    assert isinstance(found, Done)
    (event,) = found.events
    return event


# --- what is shown --------------------------------------------------------------------------


def test_of_each_kind_the_picture_with_most_of_them_is_shown() -> None:
    batch = closed(
        member(0, box("person", 0.99), box("car", 0.6)),
        member(1, box("person", 0.8), box("dog"), box("person", 0.7)),
        member(2, box("truck", 0.95)),
    )
    seen = objects_of(batch)
    assert [(s.kind, s.box.score, s.member.file_id) for s in seen] == [
        ("person", 0.8, "file_1"),
        ("person", 0.7, "file_1"),
        ("vehicle", 0.95, "file_2"),
    ]
    second = batch.members[1].picture_id
    assert [s.detection_id for s in seen[:2]] == [f"{second}.0", f"{second}.2"]
    assert telling_picture(batch) == batch.members[1]
    many = closed(member(0, *(box("person") for _ in range(9))))
    assert len(objects_of(many)) == MOST_OBJECTS
    animals = closed(member(0, box("dog", 0.6)), member(1, box("cat", 0.9)))
    assert objects_of(animals) == ()
    assert telling_picture(animals) == animals.members[1]


def test_a_cut_out_is_the_object_and_a_little_around_it() -> None:
    inside, edge, speck = crops.cut_out(
        PICTURE, "p", [box("person"), box("car", x=600, width=400), box("cat", width=4)]
    )
    assert inside is not None
    assert edge is not None
    assert speck is None
    assert [size_of(jpeg) for jpeg in (inside, edge)] == [(96, 144), (80, 144)]
    assert size_of(crops.whole(drawn(4000, 1000), "p")) == (1024, 256)


# --- what is said ---------------------------------------------------------------------------


async def test_each_part_adds_its_own() -> None:
    batch = closed(member(0, box("person"), box("car", 0.6, x=300)))
    captioned = only(await outcome(PARTS["florence"], Model(), batch=batch))
    assert isinstance(captioned, EventCaptioned)
    assert (captioned.caption, captioned.model, captioned.model_version) == (
        "a person",
        "stub",
        "1",
    )
    assert (captioned.event_id, captioned.closed_at) == (batch.event_id, RECORDED)
    embedded = only(await outcome(PARTS["clip"], Model(), batch=batch))
    assert isinstance(embedded, ObjectsEmbedded)
    assert [(s.kind, s.detection_id) for s in embedded.sightings] == [
        ("person", f"{batch.members[0].picture_id}.0"),
        ("vehicle", f"{batch.members[0].picture_id}.1"),
    ]
    assert (embedded.threshold, embedded.window_hours) == (0.85, 24.0)
    described = only(await outcome(PARTS["enrichment"], Model(), batch=batch))
    assert isinstance(described, ObjectsDescribed)
    assert [o.attributes[0].value for o in described.objects] == ["person", "car"]


@each_part
async def test_a_service_that_is_away_leaves_the_entry_and_is_asked_later(part: Parts) -> None:
    away = ServiceUnavailableError("clip", "away", retry_after=3)
    found = await outcome(part, Model(away))
    assert isinstance(found, Retry)
    assert (found.error, found.after) == (away, 3)


@each_part
@pytest.mark.parametrize(
    ("error", "code"),
    [(PermanentError("no"), "refused"), (BadAnswerError("nonsense"), "bad_answer")],
)
async def test_what_a_service_refuses_is_said_with_its_model(
    part: Parts, error: Exception, code: str
) -> None:
    event = only(await outcome(part, Model(error)))
    assert isinstance(event, EventNotEnriched)
    assert (event.code, event.why, event.model) == (code, str(error), "stub")


@each_part
@pytest.mark.parametrize(
    "pictures",
    [
        Pictures(PermanentError("it has vanished")),
        Pictures(TransientError("it cannot be read")),
        Pictures(data=drawn(100, 100)),
    ],
    ids=["vanished", "unreadable", "overwritten"],
)
async def test_a_picture_that_is_gone_or_another_is_said_and_not_sent(
    part: Parts, pictures: Pictures
) -> None:
    model = Model()
    found = await outcome(part, model, pictures)
    event = only(found)
    assert isinstance(event, EventNotEnriched)
    assert event.code == "picture_gone"
    assert model.sent == []
    # It proves nothing about the service.
    assert isinstance(found, Done)
    assert found.passed_by


@each_part
async def test_pictures_whose_folder_is_away_are_waited_for(part: Parts) -> None:
    away = ServiceUnavailableError("pictures", "not mounted")
    assert isinstance(await outcome(part, Model(), Pictures(away)), Retry)


@pytest.mark.parametrize("part", [PARTS["clip"], PARTS["enrichment"]])
@pytest.mark.parametrize("shown", [box("dog"), box("person", width=4)])
async def test_without_people_and_vehicles_there_is_nothing_to_ask(
    part: Parts, shown: Box
) -> None:
    model = Model()
    event = only(await outcome(part, model, batch=closed(member(0, shown))))
    assert (event.code, model.sent) == ("nothing_to_look_at", [])


async def test_a_model_exchanged_between_two_objects_is_not_mixed() -> None:
    model = Model()
    model.identities = [IDENTITY, ModelIdentity("stub", "2", "http")]
    batch = closed(member(0, box("person"), box("person", 0.5)))
    assert only(await outcome(PARTS["clip"], model, batch=batch)).code == "bad_answer"


async def test_only_closed_batches_are_looked_at() -> None:
    event = PictureBatched(
        camera_id="porch", batch_id="b", member=member(0, box("person")), detected_at=NOON
    )
    handler = Enrich(Captions(Model(), Cutter(Pictures())), Free())
    assert await handler(envelope(event)) == Done(passed_by=True)


# --- who may run ----------------------------------------------------------------------------


async def test_under_memory_pressure_nobody_is_asked_and_nothing_is_lost() -> None:
    model = Model()
    pressed = Free("GPU memory is full")
    handler = Enrich(Captions(model, Cutter(Pictures())), pressed)
    found = await handler(envelope(closed(member(0, box("person")))))
    assert isinstance(found, Retry)
    assert isinstance(found.error, ServiceUnavailableError)
    assert model.sent == []
    with pytest.raises(ServiceUnavailableError, match="GPU memory is full"):
        await handler.check()
    pressed.why = None
    assert (await handler.check()).line == "stub 1 by http"
    event = only(await handler(envelope(closed(member(0, box("person"))))))
    assert isinstance(event, EventCaptioned)


class Probe:
    """GPUs with this share of their memory in use."""

    source = "nvml"

    def __init__(self, *shares: float | None) -> None:
        self.shares = shares
        self.closed = False

    def read(self) -> tuple[GpuReading, ...]:
        return tuple(
            GpuReading(
                index=n,
                memory_used_mib=None if share is None else share * 8000,
                memory_total_mib=8000.0,
            )
            for n, share in enumerate(self.shares)
        )

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("shares", "pressed"),
    [((), ""), ((None,), ""), ((0.84,), ""), ((0.5, 0.85), "85% of the memory of GPU 1")],
)
async def test_memory_counts_from_85_percent_on(
    shares: tuple[float | None, ...], pressed: str
) -> None:
    probe = Probe(*shares)
    pressure = GpuMemoryPressure(lambda: probe)
    excuse = await pressure.excuse()
    assert (excuse or "").startswith(pressed)
    assert bool(excuse) == bool(pressed)
    probe.shares = (0.99,)  # Not looked at again so soon.
    assert await pressure.excuse() == excuse
    await pressure.close()
    assert probe.closed


def test_a_long_caption_is_cut_at_a_word() -> None:
    text = clean_caption("word " * 300)
    assert len(text) <= 500
    assert text.endswith("word…")
    assert clean_caption("\x00\u202e<|im_end|>") == ""


# --- when the stage runs at all -------------------------------------------------------------


def test_the_stage_runs_only_when_a_service_is_configured() -> None:
    assert Settings().enrichment_urls == {}
    url = "http://user:hidden@clip.example:8093/"
    chosen = Settings(clip_url=url)
    assert chosen.enrichment_urls == {"clip": url.rstrip("/")}
    assert "hidden" in chosen.secrets
    places = plan.Places("127.0.0.1", 8000, Path("/state"), Path("/cameras"))
    assert "enrich" not in plan.pipeline(places, {}).contains
    assert "enrich" in plan.pipeline_roles(chosen)
    optional = {"enrich", "notify", "scene", "trial", "traces"}
    assert {*plan.PIPELINE, *optional, "project", "retention"} == set(ROLES)
