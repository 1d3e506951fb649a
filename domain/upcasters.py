"""Pure functions that raise an old stored payload by one version; applied at decode, in order."""

from collections.abc import Callable, Mapping
from typing import Any

from domain.errors import PermanentError

Payload = dict[str, Any]
Upcaster = Callable[[Payload], Payload]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""(tag, version) → the step that makes version + 1 of it. Every event is still at version 1."""


def upcast(
    tag: str,
    version: int,
    target: int,
    payload: Payload,
    steps: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> Payload:
    """Raise `payload` from `version` to `target`; PermanentError where a step is missing."""
    for step in range(version, target):
        upcaster = steps.get((tag, step))
        if upcaster is None:
            raise PermanentError(f"no upcaster raises {tag} from version {step} to {step + 1}")
        try:
            payload = upcaster(payload)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PermanentError(
                f"{tag} version {step} does not have the shape its upcaster expects: {error!r}"
            ) from error
    return payload
