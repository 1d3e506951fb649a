"""Whole made-up histories for the read models' property tests."""

from collections.abc import Sequence
from random import Random

from support.histories import (
    CAT,
    FAINT,
    PERSON,
    assessed,
    at,
    batched,
    closed,
    detected,
    duplicate,
    escalated,
    filtered,
    gpu_sample,
    image,
    parked,
    refined,
    registered,
    rejected,
    video,
)

from domain import ids
from domain.events import (
    SYSTEM,
    CameraRemoved,
    CameraUpdated,
    Event,
    EventReviewed,
    GpuReading,
    ImageReceived,
    ServiceStateChanged,
)


def history(random: Random) -> list[Event]:
    """Make up what happened on three cameras: every kind of event, many in odd order."""
    events: list[Event] = []
    for camera in ("front_door", "garden", "garage"):
        events += _configured(random, camera)
        pictures = [image(number, camera) for number in range(random.randint(1, 6))]
        events += pictures
        events += video(100, random.randint(0, 3), camera)
        events += _odd_files(random, camera, pictures[0])
        for picture in pictures:
            events += _on_its_way(random, picture, pictures[0])
        events += _told(random, pictures)
    events += [gpu_sample(random.randint(0, 3), GpuReading(index=k)) for k in range(3)]
    events.append(gpu_sample(random.randint(0, 3), host="bare"))
    events += [_service(random) for _ in range(3)]
    # Some facts stand in the log twice.
    events += random.choices(events, k=random.randint(0, 5))
    return events


def _configured(random: Random, camera: str) -> list[Event]:
    choices: list[Event] = [
        registered(camera, api=False),
        registered(camera, name="Named"),
        CameraUpdated(camera_id=camera, name="Renamed"),
        CameraUpdated(camera_id=camera, enabled=False, confirmed=True),
        CameraRemoved(camera_id=camera),
    ]
    return [registered(camera, api=random.random() < 0.5), *random.sample(choices, k=3)]


def _odd_files(random: Random, camera: str, picture: ImageReceived) -> list[Event]:
    choices: list[Event] = [
        duplicate(1, picture),
        rejected(200, camera),
        image(0, camera, name="later-again"),
        rejected(201, camera, file_id=picture.file_id),
        rejected(202, camera, file_id=duplicate(1, picture).file_id),
    ]
    return random.sample(choices, k=random.randint(0, len(choices)))


def _on_its_way(random: Random, picture: ImageReceived, first: ImageReceived) -> list[Event]:
    boxes = random.choice([(), (FAINT,), (PERSON, CAT), (PERSON, CAT, FAINT)])
    steps: list[Event] = [
        detected(picture, *boxes),
        filtered(picture),
        batched(picture, first),
        batched(picture, picture),
        parked(random.choice(["detect", "batch", "assess", "refine"]), picture=picture),
        parked("assess", batch=ids.batch_id(first.camera_id, first.picture_id)),
    ]
    return [step for step in steps if random.random() < 0.7]


def _told(random: Random, pictures: Sequence[ImageReceived]) -> list[Event]:
    fast = assessed(*pictures[:1], stage="fast_path", score=random.randint(20, 80))
    final = assessed(*pictures, score=random.randint(20, 80))
    steps: list[Event] = [
        escalated(*pictures[:1]),
        closed(*pictures),
        fast,
        final,
        refined(fast, score=random.randint(20, 80)),
        refined(final, score=random.randint(20, 80)),
        assessed(*pictures, score=random.randint(20, 80)),
        *(
            EventReviewed(
                camera_id=final.camera_id,
                event_id=final.event_id,
                reviewed=random.choice([None, True, False]),
                notes=random.choice([None, "", "seen"]),
                actor=random.choice(["ann", "bob"]),
            )
            for _ in range(3)
        ),
    ]
    return random.sample(steps, k=random.randint(0, len(steps)))


def _service(random: Random) -> ServiceStateChanged:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service=random.choice(["detector", "risk_model"]),
        status=random.choice(["healthy", "unhealthy"]),
        message="so it is",
        changed_at=at(random.randint(0, 9)),
    )
