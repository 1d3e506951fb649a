"""Media by path: no name, however it is written, leads out of its camera's folder."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path

import pytest
from support.serving import Served, served

SECRET = b"nobody may read this"
UPS = ("..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%00", "..;", "%c0%ae%c0%ae", "..%20")
SLASHES = ("/", "%2f", "%5c", "\\", "//", "/./", "%252f", "%c0%af")
TARGETS = ("secret.jpg", "back/2.jpg", "cameras/back/2.jpg")


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    """A camera among files that are none of its own, and links that lead to them."""
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base) as running:
        await running.register("front", "back")
        for place in (tmp_path, base, base / "back"):
            for name in ("secret.jpg", "2.jpg", "passwd"):
                (place / name).write_bytes(SECRET)
        (base / "front/1.jpg").write_bytes(b"a picture")
        (base / "front/sub").mkdir()
        (base / "front/link.jpg").symlink_to(tmp_path / "secret.jpg")
        (base / "front/near.jpg").symlink_to(Path("..") / "back" / "2.jpg")
        (base / "front/out").symlink_to(tmp_path)
        (base / "front/sub/up").symlink_to(Path("..") / "..")
        (base / "front/round.jpg").symlink_to(base / "front/round.jpg")
        yield running


def hostile(outside: Path) -> Iterator[str]:
    """Return paths below /api/media/cameras/, as they stand in the request line."""
    for up, slash, target in product(UPS, SLASHES, TARGETS):
        for deep in (1, 2):
            yield "front/" + (up + slash) * deep + target.replace("/", slash)
    for link in ("link.jpg", "near.jpg", "out/secret.jpg", "round.jpg", "sub/up/back/2.jpg"):
        yield f"front/{link}"
        yield f"front/sub/../{link}"
    for camera in ("..", "%2e%2e", ".", "%2e", "front%2f..%2fback", "front%00", "%66ront%2f.."):
        yield f"{camera}/secret.jpg"
        yield f"{camera}/back/2.jpg"
    for whole in (str(outside / "secret.jpg"), "/etc/passwd", "file:///etc/passwd", "~/x.jpg"):
        yield f"front/{whole}"
        yield f"front/{whole.replace('/', '%2f')}"
    yield "front/" + "a" * 5000 + ".jpg"
    yield "front/1.jpg%00.png"
    yield "front/1.jpg%0d%0aX-Made-Up:%20yes"
    yield "front/%ff%fe.jpg"
    yield "front/1.jpg/"
    yield "front/CON.jpg"
    yield "front/sub/" + "../" * 40 + "etc/passwd"


async def asked(api: Served, path: str) -> tuple[int, bytes]:
    """Ask as it stands: a client library would tidy the path up before it sends it."""
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        line = f"GET /api/media/cameras/{path} HTTP/1.1\r\n"
        writer.write(f"{line}Host: localhost\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            said = await reader.read()
        return int(said.split(b" ", 2)[1]), said
    finally:
        writer.close()


async def test_no_name_leads_out_of_the_folder(api: Served, tmp_path: Path) -> None:
    status, said = await asked(api, "front/1.jpg")
    assert (status, said.endswith(b"a picture")) == (200, True)
    names = list(dict.fromkeys(hostile(tmp_path)))
    assert len(names) >= 200
    for name in names:
        status, said = await asked(api, name)
        assert SECRET not in said, name
        assert b"root:" not in said, name
        assert b"x-made-up" not in said.split(b"\r\n\r\n")[0].lower(), name
        assert 400 <= status < 500, (name, said[:200])
