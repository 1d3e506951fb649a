"""The settings in effect in a process: its own, with what was changed while everything runs."""

import logging
from collections.abc import Callable

from domain.errors import HsiError
from runtime.hot import HOT
from runtime.settings import Settings
from streams.configuration import ChangedSettings, load_changed
from streams.envelope import Envelope
from streams.log import EventLog

logger = logging.getLogger(__name__)

Listener = Callable[[Settings], None]


class LiveSettings:
    """Takes the entries of the stream `system`; tells its listeners when something changed."""

    def __init__(self, own: Settings, changed: ChangedSettings | None = None) -> None:
        self.own = own
        """As this process's layers say."""
        self.changed = ChangedSettings()
        self.current = own
        self._listeners: list[Listener] = []
        if changed is not None:
            self.learn(changed)

    @classmethod
    async def load(cls, log: EventLog, own: Settings) -> "LiveSettings":
        """Return the settings with every change that stands in the log."""
        return cls(own, await load_changed(log))

    def on_change(self, listener: Listener) -> None:
        """Call `listener` with the new settings after every change, and with the present ones."""
        self._listeners.append(listener)
        listener(self.current)

    def hear(self, envelope: Envelope) -> None:
        """Take the next entry of the stream; any other one is passed over."""
        if envelope.stream == "system":
            self.learn(self.changed.evolve(envelope.event, envelope.position))

    def learn(self, changed: ChangedSettings) -> None:
        """Take a newer fold of the stream."""
        old, self.changed = self.changed, changed
        if (changed.values, changed.times) == (old.values, old.times):
            return
        if back := [
            name for name in old.values.keys() | changed.times.keys() if self._is_back(old, name)
        ]:
            own = self.beneath()
            self.own = self.own.changed({name: getattr(own, name) for name in back}, "the files")
        values = {name: value for name, value in changed.values.items() if name in HOT}
        try:
            self.current = self.own.changed(values, "PATCH /api/system/config")
        except HsiError as error:
            logger.error("changed settings are not taken over: %s", error)
            return
        logger.info("settings changed: %s", ", ".join(values) or "none is changed any more")
        for listener in self._listeners:
            listener(self.current)

    def beneath(self) -> Settings:
        """Return what the layers say now, without the changes that stand in the log."""
        try:
            return self.own.again()
        except HsiError as error:
            logger.error("the settings count as they were at the start: %s", error)
            return self.own

    def _is_back(self, old: ChangedSettings, name: str) -> bool:
        """Say whether a setting was just given back to the layers."""
        told = self.changed.times.get(name) != old.times.get(name)
        return told and name in HOT and name not in self.changed.values
