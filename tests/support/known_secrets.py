"""Everything that an installation wrote anywhere, as text to look for secrets in."""

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import zstandard
from psycopg import sql
from redis import Redis
from support.installation import Installation

from runtime.embedded.folders import Folders

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_READERS: dict[Any, Callable[[Any, Any], Any]] = {
    b"string": lambda redis, key: [redis.get(key)],
    b"hash": lambda redis, key: redis.hgetall(key).items(),
    b"zset": lambda redis, key: redis.zrange(key, 0, -1),
    b"set": lambda redis, key: redis.smembers(key),
    b"list": lambda redis, key: redis.lrange(key, 0, -1),
    b"stream": lambda redis, key: redis.xrange(key),
}


def servers_secret(house: Installation) -> str:
    """Return the password of the embedded Redis and PostgreSQL."""
    return (house.state / "secret").read_text().strip()


def in_redis(house: Installation) -> Iterator[tuple[str, str]]:
    """Give every key of the running Redis with all it holds."""
    socket = Folders.prepare(house.state).sockets / "valkey.sock"
    redis: Any = Redis(unix_socket_path=str(socket), password=servers_secret(house))
    with redis:
        for key in redis.scan_iter():
            held = list(_READERS[redis.type(key)](redis, key))
            yield f"redis {key.decode()}", f"{key!r} {held!r}"


def in_postgres(house: Installation) -> Iterator[tuple[str, str]]:
    """Give every table of the running PostgreSQL with all its rows."""
    folder = quote(str(Folders.prepare(house.state).sockets), safe="")
    url = f"postgresql://hsi:{servers_secret(house)}@/hsi?host={folder}"
    with psycopg.connect(url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            copying = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))
            with connection.cursor() as cursor, cursor.copy(copying) as rows:
                yield f"table {table}", b"".join(bytes(row) for row in rows).decode()


def in_files(*folders: Path) -> Iterator[tuple[str, str]]:
    """Give every file below the folders; what is compressed is unpacked."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                if path.suffix == ".gz":
                    content = gzip.decompress(content)
                elif path.suffix == ".zst":
                    packed = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content))
                    content = packed.read()
                yield str(path), content.decode("latin-1")
