"""A Redis that is set up as a cache is said to be unfit for the log, before something is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.servers import PrivateValkey

from agents.opening import open_patiently
from domain.errors import HsiError
from hsi.config_check import check
from runtime.settings import load_settings
from streams.connection import connect
from streams.keeping import doubts

CACHE = ("appendonly no", "maxmemory 50mb", "maxmemory-policy allkeys-lru")


class Says:
    """A server that tells this of itself."""

    def __init__(self, **info: Any) -> None:
        self._info = info

    async def info(self) -> dict[str, Any]:
        return self._info


async def test_the_embedded_server_is_fit(private_valkey: PrivateValkey) -> None:
    client, _ = await connect(private_valkey.url)
    try:
        assert await doubts(client) == []
    finally:
        await client.aclose()


async def test_a_cluster_is_doubted_when_one_of_its_nodes_is() -> None:
    fit = {"redis_version": "7.2.4", "aof_enabled": 1}
    nodes = {
        "one:1": fit,
        "two:2": {**fit, "aof_enabled": 0},
        "three:3": {**fit, "aof_enabled": 0},
    }
    (doubt,) = await doubts(Says(**nodes))
    assert "set appendonly yes" in doubt


async def test_a_cache_is_doubted_by_roles_and_by_the_check(
    state_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = PrivateValkey(state_folder / "cache", extra=CACHE)
    server.start()
    try:
        environ = {"REDIS_URL": server.url, "HSI_STATE_DIR": str(tmp_path)}
        settings = load_settings(environ=environ)
        opened = await open_patiently(settings, ["detect"], asyncio.Event())
        assert opened is not None
        await opened[0].close()
        probes = await asyncio.to_thread(check, settings)
    finally:
        server.stop()
    (redis,) = (probe for probe in probes if probe.service == "redis")
    assert redis.status == "answers"
    for advice in ("set appendonly yes", "set maxmemory-policy noeviction"):
        assert f"; {advice}" in caplog.text
        assert advice in redis.message


@pytest.mark.parametrize(
    "info",
    [
        {
            "redis_version": "7.0.15",
            "aof_enabled": 1,
            "maxmemory": 5,
            "maxmemory_policy": "noeviction",
        },
        {"redis_version": "8.4.0", "maxmemory": 0, "maxmemory_policy": "allkeys-lru"},
        {"redis_version": "unknown"},
        {"one:1": {"redis_version": "7.2.4"}, "two:2": {"redis_version": "7.2.4"}},
    ],
)
async def test_what_is_fit_or_not_told_is_not_doubted(info: dict[str, Any]) -> None:
    assert await doubts(Says(**info)) == []


async def test_one_that_is_too_old_is_refused() -> None:
    with pytest.raises(HsiError, match=r"Redis 6\.2\.14 is too old: the log needs Redis 7\.0"):
        await doubts(Says(redis_version="6.2.14"))
