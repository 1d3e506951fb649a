"""What a WebSocket client wants to be told of, by patterns such as `event.*`."""

from fnmatch import fnmatchcase
from typing import Final

from domain.errors import HsiError

TOPICS: Final = {
    "events": (
        "event.assessed",
        "event.unverified",
        "event.reviewed",
        "camera.status",
        "camera.scene_change",
    ),
    "system": ("system.status", "system.service"),
    "detections": ("detection.new",),
}
"""Channel → the topics of its messages."""


class BadPatternError(HsiError):
    """A pattern that can never match a message of this channel."""


class Subscriptions:
    """The topics of one client: all of its channel's until it subscribes to some."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._known = TOPICS[channel]
        self._families = sorted({topic.partition(".")[0] + ".*" for topic in self._known})
        self._patterns: list[str] | None = None
        self._topics = frozenset(self._known)

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def add(self, patterns: list[str]) -> list[str]:
        """Subscribe to more; the first time to these alone. Return all that holds now."""
        wanted = self._checked(patterns)
        held = self._patterns or []
        return self._hold(list(dict.fromkeys([*held, *wanted])))

    def drop(self, patterns: list[str]) -> list[str]:
        """Subscribe to less; return what holds now."""
        gone = self._checked(patterns)
        held = self._families if self._patterns is None else self._patterns
        return self._hold([each for each in held if each not in gone])

    def _hold(self, patterns: list[str]) -> list[str]:
        self._patterns = patterns
        self._topics = frozenset(
            topic for topic in self._known if any(fnmatchcase(topic, each) for each in patterns)
        )
        return list(patterns)

    def _checked(self, patterns: list[str]) -> list[str]:
        allowed = (*self._families, *self._known)
        if not patterns:
            raise BadPatternError(f"give patterns, a list of any of {', '.join(allowed)}")
        for each in patterns:
            if each not in allowed:
                raise BadPatternError(
                    f"/ws/{self._channel} has no {each[:100]!r}; it has {', '.join(allowed)}"
                )
        return patterns
