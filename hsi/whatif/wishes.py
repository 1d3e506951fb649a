"""What the command line asks for, checked: the span of time, the settings to try."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from domain.errors import HsiError
from domain.events import SettingsApplied
from domain.prompt import Prompt
from domain.rule_weights import Rules
from domain.whatif import Tunables
from hsi.config import shown
from hsi.whatif import rules as weights
from hsi.whatif.result import Comparison, SettingShown
from inference.ports import BOX_FLOOR
from runtime.masking import mask_urls
from runtime.settings import Settings, load_settings

TUNABLE: Final = tuple(name.upper() for name in Tunables.__struct_fields__)
DETECTOR: Final = ("RTDETR_URL",)
"""Setting one of these looks at the pictures again."""
RISK_MODEL: Final = ("NEMOTRON_URL", "NEMOTRON_API")
"""Setting one of these asks the language model about every event again; only with --refine."""
TRIABLE: Final = (*TUNABLE, *DETECTOR, *RISK_MODEL)

_LAST: Final = re.compile(r"([1-9][0-9]{0,4})([mhdw])", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_sets(sets: list[str], *, refine: bool) -> dict[str, str]:
    """Return the settings to try by name; raises HsiError for what cannot be tried."""
    chosen: dict[str, str] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        name = name.strip().upper()
        if not equals:
            raise HsiError(f"--set {text!r} has no value: write NAME=VALUE")
        if name not in TRIABLE:
            raise HsiError(
                f"--set {name}: this setting decides no event, so there is nothing to try; one "
                f"can try {', '.join(TRIABLE)}"
            )
        if name in RISK_MODEL and not refine:
            raise HsiError(
                f"--set {name} changes the language model, which is only asked with --refine"
            )
        chosen[name] = value
    return chosen


def changed_settings(env_file: Path | None, chosen: Mapping[str, str]) -> Settings:
    """Return the present settings with the chosen ones on top; raises SettingsError."""
    changed = load_settings(env_file, {**os.environ, **chosen})
    threshold = changed.detection_confidence_threshold
    if "DETECTION_CONFIDENCE_THRESHOLD" in chosen and threshold < BOX_FLOOR:
        raise HsiError(
            f"DETECTION_CONFIDENCE_THRESHOLD={threshold} cannot be tried: boxes up to {BOX_FLOOR} "
            f"are not kept; choose at least {BOX_FLOOR}"
        )
    return changed


def masked(sets: Mapping[str, str]) -> tuple[str, ...]:
    """Return `NAME=VALUE` of every setting, without passwords."""
    return tuple(f"{name}={mask_urls(value)}" for name, value in sorted(sets.items()))


def span_of(
    last: str | None, begin: str | None, end: str | None, *, now: datetime, zone: ZoneInfo
) -> tuple[datetime, datetime]:
    """Return begin and end of the span; times without a zone are the cameras' local time."""
    if (last is None) == (begin is None):
        raise HsiError("say which time: either --last 7d, or --from and perhaps --to")
    if last is not None:
        if end is not None:
            raise HsiError("--to goes with --from; --last always ends now")
        return now - _length(last), now
    first = _moment("--from", begin or "", zone)
    after = now if end is None else _moment("--to", end, zone)
    if after <= first:
        raise HsiError(f"--to {after.isoformat()} must be after --from {first.isoformat()}")
    return first, after


def _length(text: str) -> timedelta:
    match = _LAST.fullmatch(text.strip().lower())
    if match is None:
        raise HsiError(f"--last {text!r} is no length of time: write 30m, 12h, 7d or 2w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _moment(option: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise HsiError(
            f"{option} {text!r} is no time: write 2026-05-31, 2026-05-31T18:00 or "
            "2026-05-31T18:00+02:00"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def tunables_of(settings: Settings | SettingsApplied) -> Tunables:
    """Return the settings that decide events, with the threshold as it was set."""
    fields = {name: getattr(settings, name) for name in Tunables.__struct_fields__}
    return msgspec.convert(fields, Tunables)


def with_changes(recorded: Tunables, changed: Settings, chosen: Mapping[str, str]) -> Tunables:
    """Return recorded settings with the chosen ones on top.

    The threshold is that of each picture unless it is chosen.
    """
    names = [name.lower() for name in chosen if name in TUNABLE]
    fields = {name: getattr(changed, name) for name in names}
    base = msgspec.structs.replace(recorded, detection_confidence_threshold=None)
    return msgspec.structs.replace(base, **fields)


def shown_settings(
    recorded: list[Tunables], settings: Settings, changed: Settings, chosen: Mapping[str, str]
) -> tuple[SettingShown, ...]:
    """Return every setting as it was in the span and as the run takes it."""
    rows = []
    for name in TUNABLE:
        values = dict.fromkeys(shown(getattr(one, name.lower())) for one in recorded)
        was = " then ".join(values)
        after = shown(getattr(changed, name.lower())) if name in chosen else was
        rows.append(SettingShown(name=name, before=was, after=after))
    for name in (*DETECTOR, *RISK_MODEL):
        if name in chosen:
            was = shown(getattr(settings, name.lower())) or "embedded"
            after = shown(getattr(changed, name.lower())) or "embedded"
            rows.append(SettingShown(name=name, before=was, after=after))
    return tuple(rows)


def chosen_prompt(named: str | None, *, refine: bool) -> Prompt | None:
    """Return the prompt to try, by its version or from a folder; raises HsiError."""
    if named is None:
        return None
    if not refine:
        raise HsiError(
            f"--prompt {named} changes what the language model is told, and it is only asked with "
            "--refine"
        )
    if not named.strip():
        raise HsiError("--prompt is empty: name a version, or a folder with a / in it")
    # Imported here: a run without a language model needs no HTTP client.
    from agents.trying_prompts import candidate_prompt

    return candidate_prompt(named)


def pinned(prompt: Prompt | None) -> str | None:
    """Return version and checksum of a prompt."""
    return None if prompt is None else f"{prompt.version} {prompt.sha256()}"


def shown_trials(
    rules: Rules | None, prompt: Prompt | None, recorded: Comparison
) -> Iterator[SettingShown]:
    """Give the rules with each weight that differs, and the prompt, where others are tried."""
    if rules is not None:
        before = " and ".join(sorted(recorded.rules)) or "no events"
        yield SettingShown(name="RULES", before=before, after=rules.version)
        for name, default, value in weights.changed(rules):
            yield SettingShown(name=f"RULES {name}", before=default, after=value)
    if (after := pinned(prompt)) is not None:
        before = " and ".join(sorted(recorded.prompts)) or "no answers"
        yield SettingShown(name="PROMPT", before=before, after=after)
