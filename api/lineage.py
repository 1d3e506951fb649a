"""Lineage: from an event back to the files, and from a file forward to where it stopped.

Three questions whatever the history's length: the read models' rows, the positions of the facts
about them, and these entries of the log (the archive for what the log no longer has).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api.lineage_endings import Waiting, conclusion_of, file_ending, picture_ending
from api.lineage_facts import (
    assessment_facts,
    batch_fact,
    detection_fact,
    entry_of,
    file_fact,
    notification_facts,
    parked_facts,
    review_facts,
    telling,
)
from api.lineage_schemas import EventLineage, FileLineage, PictureFact, PicturePath
from api.lineage_steps import steps_of
from domain.events import (
    FileDuplicated,
    FileRejected,
    ImageReceived,
    ObjectsDetected,
    PictureBatched,
    VideoReceived,
)
from domain.ids import event_id as event_of_batch
from projections.queries import Queries
from projections.rows import EventDetail, FileDetail, FileRow, PictureRow
from streams.envelope import Envelope
from streams.log import EventLog
from streams.lookup import Lookup


@dataclass(frozen=True, slots=True)
class Known:
    """The entries about each subject, oldest first, and those that were asked for in vain."""

    about: Mapping[str, Sequence[Envelope]]
    missing: list[str]

    def of(self, subject: str | None) -> Sequence[Envelope]:
        """Return the entries about a subject."""
        return self.about.get(subject or "", ())


class LineageReader:
    """Puts lineages together."""

    def __init__(self, queries: Queries, log: EventLog, lookup: Lookup) -> None:
        self._queries = queries
        self._log = log
        self._lookup = lookup

    async def event(self, event_id: str) -> EventLineage | None:
        """Return everything that led to an event; None when there is no such event."""
        detail = await self._queries.event(event_id)
        if detail is None:
            return None
        file_ids = [file.file_id for file in detail.files]
        known = await self._known([event_id, *detail.event.picture_ids, *file_ids])
        return _event_lineage(detail, known)

    async def file(self, file_id: str) -> FileLineage | None:
        """Return what became of a file; None when there is no such file."""
        detail = await self._queries.file(file_id)
        if detail is None:
            return None
        pictures = [picture.picture_id for picture in detail.pictures]
        events = {event for each in detail.pictures if (event := _event_of(each)) is not None}
        known = await self._known([file_id, *pictures, *events])
        original = await self._original(detail.file)
        return _file_lineage(detail, known, original, await self._waiting(detail))

    async def _original(self, file: FileRow) -> FileRow | None:
        if file.duplicate_of is None:
            return None
        found = await self._queries.file(file.duplicate_of)
        return found.file if found else None

    async def _waiting(self, detail: FileDetail) -> Waiting:
        if detail.file.state != "pending" and all(p.state != "pending" for p in detail.pictures):
            return Waiting()
        services = await self._queries.service_states()
        backlog = await self._log.backlog()
        return Waiting(
            services={row.service: row for row in services},
            backlog={group.group: group for group in backlog},
        )

    async def _known(self, subjects: Sequence[str]) -> Known:
        places = await self._queries.places(subjects)
        wanted = [place for each in places.values() for place in each]
        found, troubles = await self._lookup.find(wanted)
        about = {
            subject: [found[place] for place in each if place in found]
            for subject, each in places.items()
        }
        missing = [
            f"entry {place.position} of {place.stream}/{place.partition} about {subject}: "
            "neither the log nor the archive has it any more"
            for subject, each in places.items()
            for place in each
            if place not in found
        ]
        return Known(about, [*troubles, *missing])


def _event_of(picture: PictureRow) -> str | None:
    if picture.event_id is not None:
        return picture.event_id
    return None if picture.batch_id is None else event_of_batch(picture.batch_id)


# --- back from an event ---------------------------------------------------------------------


def _event_lineage(detail: EventDetail, known: Known) -> EventLineage:
    event = detail.event
    own = known.of(event.id)
    pictures = [_picture_fact(row, known.of(row.picture_id)) for row in detail.pictures]
    files = [file_fact(row, _taken_in(row, detail.pictures, known)) for row in detail.files]
    batch = batch_fact(own)
    of_pictures = [each for row in detail.pictures for each in known.of(row.picture_id)]
    lineage = EventLineage(
        event_id=event.id,
        camera_id=event.camera_id,
        notifications=notification_facts(own),
        reviews=review_facts(own),
        assessments=assessment_facts(own),
        batch=batch,
        pictures=pictures,
        files=files,
        parked=parked_facts([*own, *of_pictures]),
        missing=known.missing,
    )
    return lineage if known.missing else _with_gaps(lineage)


def _with_gaps(lineage: EventLineage) -> EventLineage:
    """Name the parts that should be there and are not: the positions are behind the rows."""
    gaps = {
        "the assessment": bool(lineage.assessments),
        "the batch": lineage.batch is not None,
        "the files": all(file.entry for file in lineage.files) and bool(lineage.files),
        "the pictures": all(p.received for p in lineage.pictures),
        "the detections": all(p.detection for p in lineage.pictures),
    }
    lineage.missing.extend(
        f"{part}: the read model `positions` has not reached it yet; ask again"
        for part, there in gaps.items()
        if not there
    )
    return lineage


def _picture_fact(row: PictureRow, own: Sequence[Envelope]) -> PictureFact:
    received = detection = batched = None
    late = False
    for envelope in own:
        match envelope.event:
            case ImageReceived(file_id=file_id) if file_id == row.file_id and received is None:
                received = entry_of(envelope)
            case ObjectsDetected() as event if detection is None:
                detection = detection_fact(event, envelope)
            case PictureBatched() as event if batched is None:
                batched, late = entry_of(envelope), event.late
            case _:
                continue
    return PictureFact(
        picture_id=row.picture_id,
        file_id=row.file_id,
        uri=row.uri,
        captured_at=row.captured_at,
        frame=row.frame,
        received=received,
        detection=detection,
        batched=batched,
        late=late,
    )


def _taken_in(row: FileRow, pictures: Sequence[PictureRow], known: Known) -> Envelope | None:
    """Return the entry by which a file was taken in: its own, or its one picture's."""
    candidates = [*known.of(row.file_id)]
    for picture in pictures:
        candidates += known.of(picture.picture_id)
    for envelope in candidates:
        match envelope.event:
            case (
                VideoReceived(file_id=file_id)
                | ImageReceived(file_id=file_id)
                | FileDuplicated(file_id=file_id)
                | FileRejected(file_id=file_id)
            ) if file_id == row.file_id:
                return envelope
            case _:
                continue
    return None


# --- forward from a file --------------------------------------------------------------------


def _file_lineage(
    detail: FileDetail, known: Known, original: FileRow | None, waiting: Waiting
) -> FileLineage:
    paths = [_path(row, known, waiting) for row in detail.pictures]
    taken_in = _taken_in(detail.file, detail.pictures, known)
    fact = file_fact(detail.file, taken_in)
    ending = file_ending(detail.file, [path.ending for path in paths], original, waiting)
    told = next((path.unverified for path in paths if path.unverified), None)
    missing = list(known.missing)
    if taken_in is None and not missing:
        missing.append("the file: the read model `positions` has not reached it yet; ask again")
    return FileLineage(
        file=fact,
        conclusion=conclusion_of(fact, ending, told),
        ending=ending,
        pictures=paths,
        duplicates=[row.file_id for row in detail.duplicates],
        missing=missing,
        links=_links(fact.file_id, ending.event_id, ending.duplicate_of),
    )


def _path(row: PictureRow, known: Known, waiting: Waiting) -> PicturePath:
    own, of_event = known.of(row.picture_id), known.of(_event_of(row))
    detected = next((e for e in own if isinstance(e.event, ObjectsDetected)), None)
    detection = None
    if detected is not None and isinstance(detected.event, ObjectsDetected):
        detection = detection_fact(detected.event, detected)
    ending = picture_ending(row, own, of_event, waiting)
    return PicturePath(
        picture_id=row.picture_id,
        frame=row.frame,
        captured_at=row.captured_at,
        uri=row.uri,
        steps=steps_of(row.picture_id, [*own, *of_event]),
        detection=detection,
        unverified=telling(own),
        ending=ending,
        links={
            "image": f"/api/pictures/{row.picture_id}/image",
            **_event_links(ending.event_id),
        },
    )


def _links(file_id: str, event_id: str | None, duplicate_of: str | None) -> dict[str, str]:
    links = {"self": f"/api/files/{file_id}/lineage", "file": f"/api/files/{file_id}"}
    if duplicate_of is not None:
        links["duplicate_of"] = f"/api/files/{duplicate_of}/lineage"
    return links | _event_links(event_id)


def _event_links(event_id: str | None) -> dict[str, str]:
    if event_id is None:
        return {}
    return {"event": f"/api/events/{event_id}", "lineage": f"/api/events/{event_id}/lineage"}
