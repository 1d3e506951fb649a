"""The record beside a TensorRT plan: how it was built, and whether it passed its parity gate."""

from pathlib import Path

import msgspec

from domain.errors import PermanentError
from inference.repository import PlanRecord, sha256_and_size


def path_of(plan: Path) -> Path:
    """Return where the record of how a plan was built lies."""
    return plan.with_name(f"{plan.name}.json")


def read(plan: Path) -> PlanRecord:
    """Return how a plan was built; PermanentError where that is not known or another file's."""
    path = path_of(plan)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=PlanRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise PermanentError(
            f"{path} cannot be read, and without it nobody knows what {plan.name} is: build the "
            f"plan with `hsi models plan` ({error})"
        ) from error
    if record.plan_sha256 != sha256_and_size(plan)[0]:
        raise PermanentError(f"{path} describes another file than {plan}: build it again")
    return record


def write(plan: Path, record: PlanRecord) -> None:
    """Write the record in one step."""
    draft = path_of(plan).with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    draft.replace(path_of(plan))
