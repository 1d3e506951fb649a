"""Whole made-up histories for the read models' property tests."""

from collections.abc import Sequence
from random import Random

from support.enrichments import captioned, embedded, left_out, look
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
    unverified,
    video,
)

from domain import ids
from domain.events import (
    SYSTEM,
    AssessmentRefined,
    CameraRemoved,
    CameraUpdated,
    CandidateCompared,
    ConfigChanged,
    Event,
    EventReviewed,
    GpuReading,
    ImageReceived,
    PromptCompared,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneRestored,
    SceneView,
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
        events += _looked(random, pictures)
    events += [gpu_sample(random.randint(0, 3), GpuReading(index=k)) for k in range(3)]
    events.append(gpu_sample(random.randint(0, 3), host="bare"))
    events += [_service(random) for _ in range(3)]
    events += [_percent(random) for _ in range(3)]
    for number in range(random.randint(0, 4)):
        camera = random.choice(["front_door", "garden"])
        events.append(embedded(camera, number, look(random.choice([0, 20, 90]))))
        events += random.sample([captioned(camera, number), left_out(camera, number)], k=1)
    # Some facts stand in the log twice.
    events += random.choices(events, k=random.randint(0, 5))
    return events


def _configured(random: Random, camera: str) -> list[Event]:
    choices: list[Event] = [
        registered(camera, api=False),
        registered(camera, name="Named"),
        CameraUpdated(camera_id=camera, name="Renamed"),
        CameraUpdated(camera_id=camera, enabled=False, confirmed=True),
        CameraUpdated(camera_id=camera, when_unavailable=random.choice(["hold", "notify"])),
        CameraUpdated(camera_id=camera, scene_change_threshold=random.choice([0.0, 0.7])),
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
        _compared(random, picture),
        _compared(random, picture),
        unverified(picture),
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
        _prompt_compared(random, refined(final, score=random.randint(20, 80))),
        _prompt_compared(random, refined(final, score=random.randint(20, 80))),
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


def _looked(random: Random, pictures: Sequence[ImageReceived]) -> list[Event]:
    """Make up what became of a camera's view; people see changes in any order."""
    views = [_view(picture) for picture in pictures]
    changes = [
        SceneChanged(
            camera_id=picture.camera_id,
            change_id=f"scene_{picture.picture_id}",
            change_type=random.choice(["view_blocked", "angle_changed"]),
            severity="high",
            similarity=0.25,
            structure=0.0,
            threshold=0.9,
            view=view,
            baseline=views[0],
        )
        for picture, view in zip(pictures, views, strict=True)
    ]
    camera, known = pictures[0].camera_id, [change.change_id for change in changes]
    after: list[Event] = [
        SceneBaselineSet(camera_id=camera, view=views[0], reason="first"),
        SceneRestored(
            camera_id=camera,
            change_ids=tuple(random.sample(known, k=random.randint(0, len(known)))),
            picture_id="any",
            captured_at=at(9),
        ),
        *(
            SceneChangeAcknowledged(camera_id=camera, change_id=random.choice(known), actor=actor)
            for actor in ("ann", "bob")
        ),
    ]
    return [*changes, *random.sample(after, k=random.randint(0, len(after)))]


def _view(picture: ImageReceived) -> SceneView:
    return SceneView(
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        path=picture.path,
        uri=picture.uri,
        captured_at=picture.captured_at,
    )


def _compared(random: Random, picture: ImageReceived) -> CandidateCompared:
    failed = random.random() < 0.3
    return CandidateCompared(
        camera_id=picture.camera_id,
        picture_id=picture.picture_id,
        captured_at=picture.captured_at,
        canary=not failed and random.random() < 0.3,
        threshold=0.5,
        error="away" if failed else None,
        matched=0 if failed else random.randint(0, 3),
        candidate=None if failed else "new",
        candidate_ms=None if failed else float(random.randint(1, 9)),
    )


def _prompt_compared(random: Random, refined: AssessmentRefined) -> PromptCompared:
    failed = random.random() < 0.3
    return PromptCompared(
        camera_id=refined.camera_id,
        event_id=refined.event_id,
        stage=refined.stage,
        ended_at=refined.ended_at,
        rule_score=refined.rule_score,
        canary=not failed and random.random() < 0.3,
        score=refined.score,
        level=refined.level,
        model=refined.model,
        prompt_version=refined.prompt_version,
        seconds=refined.seconds,
        candidate_prompt="own",
        error="away" if failed else None,
        candidate_score=None if failed else random.randint(0, 100),
        candidate_level=None if failed else random.choice(["low", "high"]),
        candidate_seconds=None if failed else 2.0,
    )


def _percent(random: Random) -> ConfigChanged:
    return ConfigChanged(
        camera_id=SYSTEM,
        changed_at=at(random.randint(0, 9)),
        actor=random.choice(["ann", "trial guard"]),
        setting=random.choice(["CANDIDATE_PERCENT", "CANDIDATE_PROMPT_PERCENT", "RETENTION_DAYS"]),
        old=random.randint(0, 9),
        new=random.randint(0, 9),
    )


def _service(random: Random) -> ServiceStateChanged:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service=random.choice(["detector", "risk_model"]),
        status=random.choice(["healthy", "unhealthy"]),
        message="so it is",
        changed_at=at(random.randint(0, 9)),
    )
