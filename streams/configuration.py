"""Settings changed while everything runs: a fold of `config.changed`, kept beside the log.

Whoever changes a setting appends one `config.changed` a setting, and in the same call, if they
decide results, the `settings.applied` that results from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from domain.events import SYSTEM, ConfigChanged, Event, SettingValue
from domain.ids import follow_up_id
from streams.envelope import NewEvent, Position
from streams.log import EventLog
from streams.told import load_told, store_told

_ROLE: Final = "config"
_READ_RUN: Final = 1000


class ChangedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which settings were changed, up to a position of the stream `system`."""

    values: dict[str, SettingValue] = {}
    """Field name → value."""
    actors: dict[str, str] = {}
    """Field name → who set it last."""
    times: dict[str, int] = {}
    """Field name → when that was, in the log's milliseconds."""
    ms: int = 0
    seq: int = 0

    @property
    def position(self) -> Position:
        """Return up to where the stream is folded."""
        return Position(self.ms, self.seq)

    def evolve(self, event: Event, position: Position) -> "ChangedSettings":
        """Return this after one entry of the stream; one that was folded changes nothing."""
        if position <= self.position:
            return self
        values, actors, times = self.values, self.actors, self.times
        if isinstance(event, ConfigChanged):
            field = event.setting.lower()
            values = {name: value for name, value in values.items() if name != field}
            actors = {name: actor for name, actor in actors.items() if name != field}
            times = {**times, field: position.ms}
            if not event.reset:
                values[field], actors[field] = event.new, event.actor
        return ChangedSettings(
            values=values, actors=actors, times=times, ms=position.ms, seq=position.seq
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One setting to change."""

    field: str
    old: SettingValue
    new: SettingValue
    reset: bool = False
    reason: str = ""


async def load_changed(log: EventLog) -> ChangedSettings:
    """Return every change up to the end of the log."""
    partition = log.partition_of(SYSTEM)
    changed = _decoded(await log.load_snapshot(_ROLE, partition))
    while run := await log.read("system", partition, changed.position, _READ_RUN):
        for envelope in run:
            changed = changed.evolve(envelope.event, envelope.position)
    return changed


async def change_settings(
    log: EventLog, changes: Sequence[Change], *, actor: str, command: str
) -> ChangedSettings:
    """Append the changes, and what follows for the settings that decide; return the new fold.

    `command` names the request: the same one again appends nothing.
    """
    now = datetime.now(UTC)
    last = await load_told(log)
    news = [_changed_event(change, actor, command, now) for change in changes]
    applied = last.with_changes({change.field: change.new for change in changes}, now)
    told = last.next(applied) if applied is not None else None
    positions = await log.append_all([*news, told] if told else news)
    if told is not None:
        await store_told(log, last, told, positions[-1])
    changed = await load_changed(log)
    stored = msgspec.json.encode(changed)
    await log.store_snapshot(_ROLE, log.partition_of(SYSTEM), stored)
    return changed


def _changed_event(change: Change, actor: str, command: str, now: datetime) -> NewEvent:
    event = ConfigChanged(
        camera_id=SYSTEM,
        changed_at=now,
        actor=actor,
        setting=change.field.upper(),
        old=change.old,
        new=change.new,
        reset=change.reset,
        reason=change.reason,
    )
    new_id = follow_up_id(f"{command}/{change.field}", event.TAG)
    return NewEvent(id=new_id, event=event, correlation_id=command)


def _decoded(stored: bytes | None) -> ChangedSettings:
    try:
        return msgspec.json.decode(stored, type=ChangedSettings) if stored else ChangedSettings()
    except msgspec.MsgspecError:
        # Another version wrote it; the stream has it all.
        return ChangedSettings()
