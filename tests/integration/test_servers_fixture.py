"""The fixtures other tests stand on: empty, isolated, reachable."""

import psycopg
import pytest
import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from support.servers import PrivatePostgres, PrivateValkey


@pytest.mark.parametrize("turn", [1, 2])
async def test_valkey_is_empty_for_every_test(valkey_url: str, turn: int) -> None:
    async with redis.Redis.from_url(valkey_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", turn)


@pytest.mark.parametrize("turn", [1, 2])
def test_database_is_empty_for_every_test(database_url: str, turn: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE left_behind (id int)")
        locale = connection.execute(
            "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
        )
        assert locale.fetchone() == ("b", "C.UTF-8")


@pytest.mark.parametrize("turn", [1, 2])
async def test_cluster_is_empty_for_every_test(redis_cluster_url: str, turn: int) -> None:
    client = RedisCluster.from_url(redis_cluster_url)
    await client.initialize()
    try:
        assert len(client.get_primaries()) == 3
        for number in range(30):
            assert await client.get(f"key{number}") is None
            await client.set(f"key{number}", turn)
    finally:
        await client.aclose()


async def test_a_killed_valkey_keeps_what_it_synced(private_valkey: PrivateValkey) -> None:
    async with redis.Redis.from_url(private_valkey.url) as client:
        await client.set("kept", "yes")
        await client.waitaof(1, 0, 5000)
    private_valkey.kill()
    private_valkey.start()
    async with redis.Redis.from_url(private_valkey.url) as client:
        assert await client.get("kept") == b"yes"


def test_a_killed_postgres_recovers(private_postgres: PrivatePostgres) -> None:
    with psycopg.connect(private_postgres.url) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    private_postgres.kill()
    private_postgres.start()
    with psycopg.connect(private_postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
