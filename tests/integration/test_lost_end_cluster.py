"""A cluster of which one node comes back without its last entries: noticed as on one server."""

import asyncio

import pytest
from redis.exceptions import MovedError, RedisClusterException
from support.logs import new, opened, received
from support.servers import ValkeyCluster

from domain.errors import ServiceUnavailableError
from domain.events import ImageReceived
from streams.connection import redis_errors
from streams.continuity import LostEndError
from streams.envelope import START
from streams.log import EventLog
from streams.names import stream_key

CAMERA = "porch"


async def told(log: EventLog, picture: str) -> None:
    """Append a picture, and read it as every process does."""
    await log.append(new(received(picture, CAMERA)))
    assert picture in await read(log)


async def read(log: EventLog) -> list[str]:
    """Return the pictures in the log, waiting for its nodes if they are away."""
    while True:
        try:
            envelopes = await log.read("files", log.partition_of(CAMERA), START, 10)
        except ServiceUnavailableError:
            await asyncio.sleep(0.01)
        else:
            return [e.event.picture_id for e in envelopes if isinstance(e.event, ImageReceived)]


def node_of(log: EventLog, cluster: ValkeyCluster) -> int:
    """Return which node holds the camera's streams."""
    node = log.client.get_node_from_key(stream_key(log.partition_of(CAMERA), "files"))
    return cluster.ports.index(int(node.port))


async def test_a_cluster_node_that_lost_its_end_is_noticed_and_one_that_did_not_is_no_concern(
    redis_cluster: ValkeyCluster, redis_cluster_url: str
) -> None:
    async with opened(redis_cluster_url) as log:
        number = node_of(log, redis_cluster)
        await told(log, "a")
        redis_cluster.save(number)
        redis_cluster.crash(number)
        assert await read(log) == ["a"]

        await told(log, "b")
        redis_cluster.crash(number)
        async with opened(redis_cluster_url) as other:
            # The log goes on behind the gap, so its end alone does not tell.
            await told(other, "c")
        for _ in range(2):
            with pytest.raises(LostEndError, match="start again"):
                await read(log)


@pytest.mark.parametrize("noticed", ["looked up anew", "met on another node"])
async def test_slots_of_a_cluster_that_another_node_answers_for_are_looked_at(
    redis_cluster_url: str, noticed: str
) -> None:
    async with opened(redis_cluster_url) as log:
        await told(log, "a")
        # A primary that lagged while it was a replica, to which we are connected already.
        async with opened(redis_cluster_url) as other:
            await other.client.delete(stream_key(log.partition_of(CAMERA), "files"))
            await other.ensure_group("files", log.partition_of(CAMERA), "detect")
            await told(other, "b")
        nodes = log.client.nodes_manager
        if noticed == "looked up anew":
            await nodes.initialize()  # as the driver does once a node is gone
        else:
            slot = log.client.keyslot(stream_key(log.partition_of(CAMERA), "files"))
            owner = nodes.get_node_from_slot(slot)
            former = next(node for node in log.client.get_primaries() if node is not owner)
            nodes.slots_cache[slot] = [former]
            await nodes.move_slot(MovedError(f"{slot} {owner.host}:{owner.port}"))
        with pytest.raises(LostEndError, match="start again"):
            await read(log)


async def test_a_cluster_of_which_every_node_lost_its_end_is_not_taken_as_away() -> None:
    with pytest.raises(LostEndError, match="gone"):
        async with redis_errors():  # as the driver puts it when no node is left to ask
            raise RedisClusterException("cannot be connected") from LostEndError("gone")
