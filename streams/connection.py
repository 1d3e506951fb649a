"""The connection to Redis: one server or a cluster, errors classed, scripts loaded where missing.

The client never retries by itself: redis-py's default of ten tries turns a slow server into
repeated appends (measured in `facts`), so whoever calls decides.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.event import (
    AsyncAfterSlotsCacheRefreshEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
)
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from domain.errors import HsiError, ServiceUnavailableError
from streams import scripts

SOCKET_TIMEOUT_SECONDS = 15.0
"""Longer than every blocking read: a server that says nothing for so long is taken as gone."""

_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterError,
    TryAgainError,
    RedisClusterException,
    OSError,
)


@asynccontextmanager
async def redis_errors() -> AsyncIterator[None]:
    """Turn what the driver raises into errors whose class says what to do."""
    try:
        yield
    except _AWAY as error:
        if isinstance(error.__cause__, HsiError):
            # A cluster's driver wraps what we found out while it connected to its last node.
            raise error.__cause__ from None
        raise ServiceUnavailableError("redis", _why_away(error)) from error
    except OutOfMemoryError as error:
        raise ServiceUnavailableError(
            "redis", f"Redis is out of memory and takes nothing in: {error}"
        ) from error
    except ResponseError as error:
        if str(error).startswith(("MISCONF", "LOADING", "NOAUTH", "CLUSTERDOWN", "TRYAGAIN")):
            raise ServiceUnavailableError(
                "redis", f"Redis cannot write at present: {error}"
            ) from error
        if str(error).startswith(scripts.BEHIND):
            raise BehindLogError(str(error)) from error
        if str(error).startswith("NOGROUP"):
            raise HsiError(
                f"the log was emptied or replaced while this process ran ({error}); start it again"
            ) from error
        raise


def _why_away(error: Exception) -> str:
    # What fails while the driver connects comes wrapped in its ConnectionError.
    if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
        return f"Redis refuses the login ({error}); check REDIS_URL and REDIS_PASSWORD"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"Redis is not trusted ({error}); its certificate must name the host in REDIS_URL and"
            " be signed by an authority in REDIS_CA_PATH (unset: by one that the system knows)"
        )
    return f"Redis does not answer: {error}"


class BehindLogError(HsiError):
    """What was to be written was decided on a fold that the log has gone past, or fell behind."""


class Script:
    """A server-side script by its digest, sent whole only where the server does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, client: "Client", keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:  # noqa: ANN401 - each script answers its own shape; its one caller knows it
        """Run the script; `keys` all lie in one slot."""
        async with redis_errors():
            try:
                return await client.evalsha(self.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.eval(self.text, len(keys), *keys, *arguments)


Client = Any
"""redis.asyncio.Redis or RedisCluster: the driver types neither's stream commands usefully."""


async def connect(
    url: str,
    *,
    password: str | None = None,
    on_connect: Callable[[Any], Awaitable[None]] | None = None,
    on_moved: Callable[[], None] = lambda: None,
) -> tuple[Client, bool]:
    """Connect to `url`; answer the client and whether it is a cluster.

    `on_connect` logs every new connection in, instead of the driver. `on_moved` is told whenever
    other nodes of a cluster may answer from now on.

    Raises ServiceUnavailableError when nothing answers, HsiError for an unusable URL or authority.
    """
    _check_authority(url)
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": 5.0,
    }
    if password:
        options["password"] = password
    single = Retry(NoBackoff(), 0)
    try:
        client = Redis.from_url(
            url, retry=single, max_connections=1000, redis_connect_func=on_connect, **options
        )
    except ValueError as error:
        raise HsiError(f"REDIS_URL: {error}") from error
    try:
        async with redis_errors():
            info = await client.info("cluster")
    except BaseException:
        await client.aclose()
        raise
    if not info.get("cluster_enabled"):
        return client, False
    await client.aclose()
    cluster = _cluster(url, on_connect, on_moved, {"retry": single, **options})
    try:
        async with redis_errors():
            await cluster.initialize()
    except BaseException:
        await cluster.aclose()
        raise
    return cluster, True


def _cluster(
    url: str,
    on_connect: Callable[[Any], Awaitable[None]] | None,
    on_moved: Callable[[], None],
    options: dict[str, Any],
) -> RedisCluster:
    moved = _Moved(on_moved)
    heard: dict[type[object], list[Any]] = {AsyncAfterSlotsCacheRefreshEvent: [moved]}
    cluster = RedisCluster.from_url(url, event_dispatcher=EventDispatcher(heard), **options)
    moved.cluster = cluster
    if on_connect is not None:
        # The driver takes no such function for a cluster, but hands on to every connection what
        # stands here; its first nodes have copies already.
        cluster.get_connection_kwargs()["redis_connect_func"] = on_connect
        for node in cluster.startup_nodes:
            node.connection_kwargs["redis_connect_func"] = on_connect
    return cluster


class _Moved(AsyncEventListenerInterface):
    """Hears that slots were looked up anew, or met on another node: every connection is begun
    anew, so that nothing is read before `tell` and the look at connecting."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self.cluster: RedisCluster | None = None

    async def listen(self, event: object) -> None:
        """Pass it on; which slots moved, the driver does not say."""
        del event
        self._tell()
        for node in self.cluster.get_nodes() if self.cluster else ():
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()


def _check_authority(url: str) -> None:
    """Say which file cannot be used: the driver would only say that nothing answers."""
    path = dict(parse_qsl(urlsplit(url).query)).get("ssl_ca_certs")
    try:
        ssl.create_default_context(cafile=path) if path else None
    except (OSError, ssl.SSLError) as error:
        raise HsiError(
            f"REDIS_CA_PATH={path} cannot be read: write the path of a PEM file with the authority"
            f" that signed the certificate of Redis ({error})"
        ) from error
