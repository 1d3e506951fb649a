"""What the supervisor (`hsi up`) says of the services it runs, and its answers to requests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from domain.events import ServiceStateChanged
from streams.envelope import Envelope
from streams.supervised import Supervised, Word


class Supervision:
    """Hears the log's tail: the last word about each service, and who waits for one."""

    def __init__(self) -> None:
        self.known = Supervised()
        self._waiting: dict[str, asyncio.Future[Word]] = {}

    def learn(self, known: Supervised) -> None:
        """Take a fold of what was said before this process heard anything."""
        self.known = known

    def hear(self, envelope: Envelope) -> None:
        """Take an envelope of the log's tail."""
        self.known = self.known.evolve(envelope)
        event = envelope.event
        if isinstance(event, ServiceStateChanged) and event.process is not None:
            waiting = self._waiting.get(event.process.answers)
            if waiting is not None and not waiting.done():
                waiting.set_result(self.known.services[event.service])

    def word(self, service: str) -> Word | None:
        """Return the last word about a service; None: no supervisor has told of it."""
        return self.known.services.get(service)

    @contextmanager
    def answer_to(self, request_id: str, service: str) -> Iterator[asyncio.Future[Word]]:
        """Give what becomes the supervisor's answer to a request that is now sent."""
        waiting: asyncio.Future[Word] = asyncio.get_running_loop().create_future()
        word = self.word(service)
        if word is not None and word.facts.answers == request_id:
            waiting.set_result(word)  # The same request was sent, and answered, before.
        self._waiting[request_id] = waiting
        try:
            yield waiting
        finally:
            del self._waiting[request_id]

    def troubles(self) -> list[str]:
        """Return which services do not run though they are there, and why."""
        return [
            f"{name} is {word.message}" if word.facts.by else f"{name} {word.message}"
            for name, word in sorted(self.known.services.items())
            if word.status == "failed" or word.facts.by
        ]
