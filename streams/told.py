"""What was told last of the settings that decide results, kept beside the log.

A process that dies between the two writes, and several that tell the same at once, append it once
all the same: its id follows from the last one's.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from domain.events import SYSTEM, SettingsApplied
from domain.ids import follow_up_id
from streams.envelope import NewEvent, Position
from streams.log import EventLog

_ROLE: Final = "settings"


class Told(msgspec.Struct, frozen=True):
    """What was told last, and the id of the entry that told it."""

    id: str
    content: str
    positions: tuple[str, ...] | None = None
    """Where each of them stands in the stream, from the first on; None: not known."""

    def with_changes(self, changes: Mapping[str, object], at: datetime) -> SettingsApplied | None:
        """Return what was told with some of it changed; None when nothing was told yet."""
        if not self.content:
            return None
        values: dict[str, Any] = msgspec.json.decode(self.content)
        known = {name: value for name, value in changes.items() if name in values}
        return msgspec.convert({**values, **known, "applied_at": at}, SettingsApplied)

    def next(self, event: SettingsApplied) -> NewEvent | None:
        """Return the event to append; None when the same was told last."""
        content = _content(event)
        if content == self.content:
            return None
        new_id = follow_up_id(f"{self.id}/{content}", event.TAG)
        return NewEvent(id=new_id, event=event, correlation_id=new_id)


async def load_told(log: EventLog) -> Told:
    """Return what was told last."""
    stored = await log.load_snapshot(_ROLE, log.partition_of(SYSTEM))
    try:
        return msgspec.json.decode(stored, type=Told) if stored else Told("", "", ())
    except msgspec.MsgspecError:
        # Another version wrote it: the settings are told once more, which harms nobody.
        return Told("", "")


async def store_told(log: EventLog, last: Told, new: NewEvent, position: Position) -> None:
    """Keep that `new`, a `settings.applied`, was appended at `position` after `last`."""
    assert isinstance(new.event, SettingsApplied)  # noqa: S101 - made by Told.next
    known = None if last.positions is None else (*last.positions, str(position))
    told = Told(new.id, _content(new.event), known)
    await log.store_snapshot(_ROLE, log.partition_of(SYSTEM), msgspec.json.encode(told))


async def tell(log: EventLog, event: SettingsApplied) -> bool:
    """Append `event` unless the same was told last; answer whether it was appended."""
    last = await load_told(log)
    new = last.next(event)
    if new is None:
        return False
    await store_told(log, last, new, await log.append(new))
    return True


async def told_positions(log: EventLog) -> list[Position] | None:
    """Return where every `settings.applied` stands; None: only the whole stream tells."""
    told = await load_told(log)
    if not told.id or told.positions is None:
        return None
    return [Position.parse(one) for one in told.positions]


def _content(event: SettingsApplied) -> str:
    """Return what must differ for the settings to be others: all but the time."""
    values = msgspec.to_builtins(event)
    del values["applied_at"]
    return msgspec.json.encode(values, order="sorted").decode()
