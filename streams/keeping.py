"""Whether a Redis is fit to keep the log: new enough, writes to its disk, throws nothing away.

The log is the truth here and no cache; a Redis that is set up as one loses it without a word.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from domain.errors import HsiError
from streams.connection import Client, redis_errors

OLDEST: Final = (7, 0)
"""Valkey says 7.2 here, whichever version it is."""


async def doubts(client: Client) -> list[str]:
    """Return why what stands in this Redis may get lost, each with what to do.

    Raises HsiError when it is too old. What it does not tell is not doubted.
    """
    async with redis_errors():
        info: dict[str, Any] = await client.info()
    # A cluster answers one by one.
    nodes = [info] if "redis_version" in info else list(info.values())
    return list(dict.fromkeys(doubt for node in nodes for doubt in _of(node)))


def _of(info: Mapping[str, Any]) -> Iterator[str]:
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST:
        raise HsiError(
            f"Redis {version} is too old: the log needs Redis 7.0 or newer, or Valkey 8 or newer"
        )
    if info.get("aof_enabled") == 0:
        yield (
            "appendonly is off: this Redis keeps the log, and loses of it what its last snapshot"
            " lacks whenever it ends; set appendonly yes"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: this Redis may throw streams of the log away when its"
            " memory is full; set maxmemory-policy noeviction"
        )
