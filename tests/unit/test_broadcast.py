"""How messages are put together and offered: in pieces, to those who hear them, once."""

import json
from dataclasses import dataclass, field

from msgspec.structs import replace
from support.asyncapi import Described
from support.logs import NOON
from support.serving import assessment

from api.broadcast import PIECE_BYTES, Channel
from api.cursor import Key
from api.outgoing import text_frame
from domain.events import CameraRemoved, Event
from streams.envelope import START, Envelope, Position

KEYS: tuple[Key, ...] = (("assessments", 0), ("cameras", 0))


@dataclass(eq=False)
class Hearing:
    """A listener that keeps what it is offered."""

    channel: Channel
    topics: tuple[str, ...] = ("event.assessed", "camera.status")
    cameras: tuple[str, ...] = ("front", "yard")
    room: int = 1000
    """How many pieces it takes."""
    pieces: list[bytes] = field(default_factory=list)
    behind: dict[Key, Position] | None = None
    key_id: str | None = None
    waiting_bytes: int = 0

    def hears(self, topic: str, camera_id: str) -> bool:
        return topic in self.topics and camera_id in self.cameras

    def offer(self, frames: bytes) -> bool:
        if len(self.pieces) >= self.room:
            return False
        self.pieces.append(frames)
        return True

    def fall_behind(self, positions: dict[Key, Position]) -> None:
        self.channel.listeners.discard(self)
        self.behind = positions

    def end(self, code: int, reason: str) -> None:
        raise AssertionError("nobody is closed here")


def channel() -> Channel:
    return Channel("events", KEYS, "a-life", head=dict.fromkeys(KEYS, START))


def listening(to: Channel, **more: object) -> Hearing:
    listener = Hearing(to, **more)  # type: ignore[arg-type]  # fields by name
    to.listeners.add(listener)
    return listener


def envelopes(*events: Event) -> list[Envelope]:
    return [
        Envelope(f"e{n}", event, event.STREAM, 0, Position(n, 0), NOON, "c", "")
        for n, event in enumerate(events, 1)
    ]


def told(listener: Hearing) -> list[str]:
    """Return the types that a listener was told, each of which must be whole and described."""
    octets, types, described = b"".join(listener.pieces), [], Described()
    while octets:
        assert octets[0] == 0x81
        size, start = octets[1], 2
        if size == 126:
            size, start = int.from_bytes(octets[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(octets[2:10], "big"), 10
        text = octets[start : start + size].decode()
        described.check("events", text)
        types.append(f"{json.loads(text)['type']} {json.loads(text)['data']['camera_id']}")
        octets = octets[start + size :]
    return types


async def test_what_is_read_together_goes_out_together_to_each_what_it_hears() -> None:
    live = channel()
    everything = listening(live)
    events_only = listening(live, topics=("event.assessed",))
    yard_only = listening(live, cameras=("yard",))
    nothing = listening(live, topics=())
    await live.take(
        envelopes(assessment("front", 1), CameraRemoved(camera_id="yard"), assessment("yard", 2))
    )
    assert told(everything) == ["event front", "camera_status yard", "event yard"]
    assert told(events_only) == ["event front", "event yard"]
    assert told(yard_only) == ["camera_status yard", "event yard"]
    assert [len(each.pieces) for each in (everything, events_only, yard_only, nothing)] == [
        1,
        1,
        1,
        0,
    ]
    assert (live.metrics.messages, live.metrics.delivered) == (3, 7)


async def test_who_has_no_room_goes_on_behind_the_last_piece_that_it_took() -> None:
    live = channel()
    reads, slow = listening(live), listening(live, room=1)
    long = "x" * (PIECE_BYTES // 2)
    await live.take(
        envelopes(*(replace(assessment("front", n), summary=long) for n in range(1, 8)))
    )
    assert told(reads) == ["event front"] * 7
    assert len(reads.pieces) > 2
    assert slow.behind is not None
    assert slow.behind["assessments", 0] == Position(len(told(slow)), 0)
    assert slow not in live.listeners
    assert (live.metrics.fell_behind, live.head["assessments", 0]) == (1, Position(7, 0))


def test_frames_of_every_size() -> None:
    for size, head in ((0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)):
        frame = text_frame(b"x" * size)
        assert len(frame) == head + size
        assert frame[1] == {2: size, 4: 126, 10: 127}[head]
