"""BatchClosed → EventCaptioned, ObjectsEmbedded, ObjectsDescribed: by services one can do without.

Each service has a consumer group and a gate of its own: one that is away pauses its own part and
nothing else. The main line never waits here, reads nothing of this and cannot fail by it. What
cannot be added is said as `event.not_enriched`, with the reason.
"""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, Protocol, TypedDict

from agents.detect import PictureSource
from domain.enrichment import Seen, objects_of, telling_picture
from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from domain.events import (
    Attribute,
    BatchClosed,
    BatchMember,
    EnrichmentService,
    Event,
    EventCaptioned,
    EventNotEnriched,
    ModelFacts,
    ObjectAttributes,
    ObjectsDescribed,
    ObjectsEmbedded,
    Sighting,
)
from domain.ids import picture_id
from domain.outcomes import Done, Outcome, Retry
from inference import crops
from inference.enrichment_ports import (
    BadAnswerError,
    Captioner,
    Describer,
    Embedder,
    OptionalService,
    Pressure,
)
from inference.ports import ModelIdentity
from streams.envelope import Envelope

PRESSED_SECONDS = 5.0
"""How long to wait before asking again whether a model may run."""

Code = Literal["nothing_to_look_at", "picture_gone", "refused", "bad_answer"]


class NothingToLookAtError(PermanentError):
    """The batch shows nobody and nothing that the service is for."""


class PictureGoneError(PermanentError):
    """The picture is not there any more, or it is another one."""


class Part(Protocol):
    """What one service adds to an event."""

    @property
    def service(self) -> EnrichmentService:
        """Return which service it asks."""
        ...

    @property
    def client(self) -> OptionalService:
        """Return how it is reached."""
        ...

    async def add(self, batch: BatchClosed, closed_at: datetime) -> Event:
        """Return what the service says of a batch; raises HsiError when it says nothing.

        `closed_at` is when the log took in the batch's end.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cutter:
    """Gets from a store what is to be sent; blocking work runs in threads."""

    pictures: PictureSource

    async def whole(self, camera_id: str, member: BatchMember) -> bytes:
        """Return a picture as it is sent."""
        data = await asyncio.to_thread(self._read, camera_id, member)
        return await asyncio.to_thread(crops.whole, data, member.uri)

    async def objects(self, batch: BatchClosed) -> list[tuple[Seen, bytes]]:
        """Return people and vehicles with their cut-outs, without those too small to show."""
        by_picture: dict[str, list[Seen]] = defaultdict(list)
        seen = objects_of(batch)
        for each in seen:
            by_picture[each.member.picture_id].append(each)
        found: list[tuple[Seen, bytes]] = []
        for wanted in by_picture.values():
            member, boxes = wanted[0].member, [each.box for each in wanted]
            data = await asyncio.to_thread(self._read, batch.camera_id, member)
            cuts = await asyncio.to_thread(crops.cut_out, data, member.uri, boxes)
            found += [(each, cut) for each, cut in zip(wanted, cuts, strict=True) if cut]
        if not found:
            raise NothingToLookAtError(
                f"its people and vehicles take less than {crops.LEAST_SIDE} pixels"
                if seen
                else "there is no person and no vehicle in it"
            )
        return found

    def _read(self, camera_id: str, member: BatchMember) -> bytes:
        try:
            data = self.pictures.read(member.uri)
        except ServiceUnavailableError:
            raise
        except HsiError as error:
            raise PictureGoneError(str(error)) from error
        # The frames of a video are written by us alone, and carry the video's digest.
        digest = sha256(data).hexdigest()
        same = picture_id(camera_id, digest, member.captured_at) == member.picture_id
        if member.uri.startswith("camera:") and not same:
            raise PictureGoneError(f"picture {member.uri} was overwritten since it was taken in")
        return data


@dataclass(frozen=True, slots=True)
class Captions:
    """A caption of the picture that tells most."""

    client: Captioner
    cutter: Cutter
    service: EnrichmentService = "florence"

    async def add(self, batch: BatchClosed, closed_at: datetime) -> EventCaptioned:
        member = telling_picture(batch)
        if member is None:
            raise NothingToLookAtError("it has no picture")
        jpeg = await self.cutter.whole(batch.camera_id, member)
        began = time.perf_counter()
        said = await self.client.caption(jpeg)
        return EventCaptioned(
            **about(batch, closed_at),
            picture_id=member.picture_id,
            caption=said.text,
            model=said.identity.model,
            model_version=said.identity.version,
            seconds=round(time.perf_counter() - began, 3),
        )


@dataclass(frozen=True, slots=True)
class Looks:
    """How people and vehicles look, for recognising them again."""

    client: Embedder
    cutter: Cutter
    threshold: float
    window_hours: float
    service: EnrichmentService = "clip"

    async def add(self, batch: BatchClosed, closed_at: datetime) -> ObjectsEmbedded:
        cuts = await self.cutter.objects(batch)
        began = time.perf_counter()
        answers = [(seen, await self.client.embed(jpeg)) for seen, jpeg in cuts]
        identity = _one_model([said.identity for _, said in answers])
        return ObjectsEmbedded(
            **about(batch, closed_at),
            sightings=tuple(
                Sighting(
                    detection_id=seen.detection_id,
                    picture_id=seen.member.picture_id,
                    captured_at=seen.member.captured_at,
                    kind=seen.kind,
                    box=seen.box,
                    vector=said.vector,
                )
                for seen, said in answers
            ),
            threshold=self.threshold,
            window_hours=self.window_hours,
            model=identity.model,
            model_version=identity.version,
            seconds=round(time.perf_counter() - began, 3),
        )


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of people and vehicles."""

    client: Describer
    cutter: Cutter
    service: EnrichmentService = "enrichment"

    async def add(self, batch: BatchClosed, closed_at: datetime) -> ObjectsDescribed:
        cuts = await self.cutter.objects(batch)
        began = time.perf_counter()
        answers = [(seen, await self.client.describe(jpeg, seen.box.label)) for seen, jpeg in cuts]
        identity = _one_model([said.identity for _, said in answers])
        return ObjectsDescribed(
            **about(batch, closed_at),
            objects=tuple(_described(seen, said.attributes) for seen, said in answers),
            model=identity.model,
            model_version=identity.version,
            seconds=round(time.perf_counter() - began, 3),
        )


class Enrich:
    """Handler of the `batches` stream for one service."""

    def __init__(self, part: Part, pressure: Pressure) -> None:
        self._part = part
        self._pressure = pressure

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Add to a closed batch what the service says; away, it leaves the entry pending."""
        batch = envelope.event
        if not isinstance(batch, BatchClosed):
            return Done(passed_by=True)
        try:
            await self._may_run()
            return Done((await self._part.add(batch, envelope.recorded_at),))
        except ServiceUnavailableError as error:
            return Retry(error, after=error.retry_after)
        except HsiError as error:
            return await self._left_out(batch, envelope.recorded_at, error)

    async def check(self) -> ModelFacts:
        """Return who answers; raises HsiError when nobody does, or nobody may."""
        identity = await self._part.client.check()
        await self._may_run()
        return identity.facts()

    async def _may_run(self) -> None:
        if (excuse := await self._pressure.excuse()) is not None:
            raise ServiceUnavailableError(self._part.service, excuse, retry_after=PRESSED_SECONDS)

    async def _left_out(self, batch: BatchClosed, closed_at: datetime, error: HsiError) -> Done:
        """Return the word that the event stands without this, and why."""
        identity = None if _unasked(error) else await self._identity()
        left_out = EventNotEnriched(
            **about(batch, closed_at),
            service=self._part.service,
            code=_code(error),
            why=str(error)[:500].encode("utf-8", "backslashreplace").decode(),
            model=identity.model if identity else None,
            model_version=identity.version if identity else None,
        )
        return Done((left_out,), passed_by=_unasked(error))

    async def _identity(self) -> ModelIdentity | None:
        try:
            return await self._part.client.check()
        except HsiError:
            return None  # The refusal stands all the same.


class About(TypedDict):
    """What every word about an event says of it."""

    camera_id: str
    event_id: str
    batch_id: str
    ended_at: datetime
    closed_at: datetime


def about(batch: BatchClosed, closed_at: datetime) -> About:
    """Return what is said of the event that a batch became."""
    return About(
        camera_id=batch.camera_id,
        event_id=batch.event_id,
        batch_id=batch.batch_id,
        ended_at=batch.ended_at,
        closed_at=closed_at,
    )


def _one_model(identities: list[ModelIdentity]) -> ModelIdentity:
    """Return the model of all answers; one that was exchanged meanwhile is asked again, later."""
    if len(set(identities)) != 1:
        raise BadAnswerError("the service's model was exchanged between two objects of one event")
    return identities[0]


def _described(seen: Seen, attributes: tuple[Attribute, ...]) -> ObjectAttributes:
    return ObjectAttributes(
        detection_id=seen.detection_id,
        picture_id=seen.member.picture_id,
        label=seen.box.label,
        attributes=attributes,
    )


def _unasked(error: HsiError) -> bool:
    return isinstance(error, NothingToLookAtError | PictureGoneError)


def _code(error: HsiError) -> Code:
    if isinstance(error, NothingToLookAtError):
        return "nothing_to_look_at"
    if isinstance(error, PictureGoneError):
        return "picture_gone"
    return "bad_answer" if isinstance(error, BadAnswerError) else "refused"
