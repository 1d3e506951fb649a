"""Every type of message that goes over a WebSocket, gathered from the unions that are sent."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, get_args

import msgspec

from api.broadcast import CHANNELS
from api.client_messages import ClientMessage
from api.messages import Answer, Message
from api.subscriptions import TOPICS
from api.system_feed import News

REFERENCE: Final = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class MessageType:
    """One type of message."""

    kind: type[msgspec.Struct]
    channels: tuple[str, ...]
    topic: str | None
    """What clients subscribe to; None: it is an answer, or what a client says."""
    from_client: bool

    @property
    def tag(self) -> str:
        """Return what stands in the message's `type`."""
        return str(self.kind.__struct_config__.tag)

    @property
    def name(self) -> str:
        """Return the name of its schema."""
        return self.kind.__name__

    @property
    def description(self) -> str:
        """Return what it says, in one line."""
        return (inspect.getdoc(self.kind) or "").partition("\n\n")[0].replace("\n", " ")


def message_types() -> tuple[MessageType, ...]:
    """Return every type, those that clients say last."""
    return tuple(_types())


def _types() -> Iterator[MessageType]:
    everywhere = tuple(CHANNELS)
    for kind in get_args(Answer):
        yield MessageType(kind, everywhere, None, from_client=False)
    for kind in (*get_args(Message), *get_args(News)):
        yield MessageType(kind, (_channel_of(kind.TOPIC),), kind.TOPIC, from_client=False)
    for kind in get_args(ClientMessage):
        yield MessageType(kind, everywhere, None, from_client=True)


def _channel_of(topic: str) -> str:
    return next(name for name, topics in TOPICS.items() if topic in topics)
