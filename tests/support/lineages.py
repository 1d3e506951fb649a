"""A history of files that all end differently, appended as the agents append it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from support.histories import (
    CAT,
    FAINT,
    PERSON,
    assessed,
    batched,
    closed,
    detected,
    duplicate,
    escalated,
    image,
    parked,
    refined,
    rejected,
    video,
)

from domain.events import Event, ImageReceived
from domain.ids import follow_up_id
from projections.rows import State
from streams.envelope import NewEvent

CAMERAS = ("front_door", "garden", "garage", "back_yard")


@dataclass
class Told:
    """A history, and the state in which each file must be."""

    news: list[NewEvent] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def add(self, event: Event, cause: NewEvent | None = None, *, root: str = "") -> NewEvent:
        """Add an event with the ids that an agent would give it."""
        cause_id = cause.id if cause else root
        index = sum(new.causation_id == cause_id for new in self.news[-400:])
        new = NewEvent(
            id=follow_up_id(cause_id, event.TAG, index),
            event=event,
            correlation_id=cause.correlation_id if cause else root,
            causation_id=cause.id if cause else "",
        )
        self.news.append(new)
        return new


def history(random: Random, files: int) -> Told:
    """Make up `files` files or a few more; every way to end occurs."""
    told = Told()
    numbers = iter(range(1_000_000))
    while len(told.states) < files:
        _WAYS[random.randrange(len(_WAYS))](told, random, numbers)
    return told


def _image(told: Told, random: Random, numbers: Iterator[int]) -> tuple[ImageReceived, NewEvent]:
    picture = image(next(numbers), random.choice(CAMERAS))
    return picture, told.add(picture, root=picture.file_id)


def _filtered(told: Told, random: Random, numbers: Iterator[int]) -> None:
    picture, cause = _image(told, random, numbers)
    told.add(detected(picture, *random.choice([(), (FAINT,)])), cause)
    told.states[picture.file_id] = "filtered"


def _rejected(told: Told, random: Random, numbers: Iterator[int]) -> None:
    file = rejected(next(numbers), random.choice(CAMERAS))
    told.add(file, root=file.file_id)
    told.states[file.file_id] = "rejected"


def _duplicate(told: Told, random: Random, numbers: Iterator[int]) -> None:
    picture, _ = _image(told, random, numbers)
    file = duplicate(next(numbers), picture)
    told.add(file, root=file.file_id)
    told.states[picture.file_id] = "pending"
    told.states[file.file_id] = "duplicate"


def _parked(told: Told, random: Random, numbers: Iterator[int]) -> None:
    picture, cause = _image(told, random, numbers)
    told.add(parked("detect", picture=picture), cause)
    told.states[picture.file_id] = "parked"


def _video(told: Told, random: Random, numbers: Iterator[int]) -> None:
    events = video(next(numbers) * 10 + 5_000_000, random.randint(1, 4))
    root = str(getattr(events[0], "file_id", ""))
    cause = told.add(events[0], root=root)
    for event in events[1:]:
        if isinstance(event, ImageReceived):
            told.add(detected(event, FAINT), told.add(event, cause))
    told.states[root] = "filtered"


def _batch(told: Told, random: Random, numbers: Iterator[int]) -> None:
    camera = random.choice(CAMERAS)
    pictures = [image(next(numbers), camera) for _ in range(random.randint(1, 5))]
    finds = [_found(told, picture) for picture in pictures]
    joins = [told.add(batched(p, pictures[0]), f) for p, f in zip(pictures, finds, strict=True)]
    open_still = random.random() < 0.2
    if random.random() < 0.5:
        early = told.add(escalated(pictures[0]), joins[0])
        told.add(refined(fast := assessed(pictures[0], stage="fast_path")), told.add(fast, early))
        told.states[pictures[0].file_id] = "assessed"
    for picture in pictures:
        told.states.setdefault(picture.file_id, "pending")
    if not open_still:
        _close(told, random, pictures)


def _close(told: Told, random: Random, pictures: Sequence[ImageReceived]) -> None:
    end = closed(*pictures)
    final = assessed(*pictures)
    cause = told.add(final, told.add(end, root=end.batch_id))
    if random.random() < 0.7:
        told.add(refined(final), cause)
    told.states |= dict.fromkeys((picture.file_id for picture in pictures), "assessed")


def _found(told: Told, picture: ImageReceived) -> NewEvent:
    cause = told.add(picture, root=picture.file_id)
    return told.add(detected(picture, PERSON, CAT, FAINT), cause)


_WAYS = (_filtered, _rejected, _duplicate, _parked, _video, _batch, _batch, _batch)
