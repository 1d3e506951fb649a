"""Redis, PostgreSQL and the models' services over TLS with an authority of one's own.

Nobody but who shows a certificate of that authority, for the host in the URL, is talked to; a
refusal says which setting decides.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import encode_basic_auth, web
from support import detect_service
from support.certificates import certificate, server_side, tls_front
from support.logs import new
from typer import Typer
from typer.testing import CliRunner

from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from domain.events import SYSTEM, GpuSampled
from hsi.config import config
from projections.database import open_pool
from projections.migrate import migrate, pending
from projections.queries import Queries
from runtime.settings import load_settings
from streams.envelope import START
from streams.log import EventLog

SETTINGS = {
    "redis": "REDIS_CA_PATH",
    "postgres": "DATABASE_CA_PATH",
    "detector": "AI_CA_PATH",
    "language model": "AI_CA_PATH",
    "florence": "AI_CA_PATH",
    "clip": "AI_CA_PATH",
    "enrichment": "AI_CA_PATH",
}
"""Service → the setting that names its authority."""


@dataclass(frozen=True)
class Encrypted:
    """Where everything answers by TLS, and whose certificates count."""

    urls: dict[str, str]
    authority: Path
    stranger: Path
    """An authority that has signed nothing here."""

    def environ(self, authority: Path | None) -> dict[str, str]:
        """Return the settings with one authority for everything."""
        names = sorted(set(SETTINGS.values())) if authority else []
        return {**self.urls, **dict.fromkeys(names, str(authority))}


async def healthy(_: web.Request) -> web.Response:
    return web.json_response({"model_loaded": True, "model": "remote", "version": "7"})


@pytest.fixture
async def encrypted(
    valkey_url: str, empty_database_url: str, tmp_path: Path
) -> AsyncIterator[Encrypted]:
    authority, key = certificate(tmp_path, "authority")
    stranger, _ = certificate(tmp_path, "stranger")
    context = server_side(authority, key)
    async with AsyncExitStack() as stack:
        redis_socket = urlsplit(valkey_url)
        redis_port = await stack.enter_async_context(tls_front(context, Path(redis_socket.path)))
        user, _, rest = empty_database_url.removeprefix("postgresql://").partition("@")
        folder = Path(rest.partition("host=")[2].replace("%2F", "/"))
        name = rest.partition("?")[0]
        postgres_port = await stack.enter_async_context(
            tls_front(context, folder / ".s.PGSQL.5432", postgres=True)
        )
        models = await _models(stack, context)
        yield Encrypted(
            urls={
                "REDIS_URL": f"rediss://:{redis_socket.password}@127.0.0.1:{redis_port}/0",
                "DATABASE_URL": f"postgresql://{user}@127.0.0.1:{postgres_port}{name}",
                **dict.fromkeys(
                    ("RTDETR_URL", "NEMOTRON_URL", "FLORENCE_URL", "CLIP_URL", "ENRICHMENT_URL"),
                    models,
                ),
            },
            authority=authority,
            stranger=stranger,
        )


async def _models(stack: AsyncExitStack, context: ssl.SSLContext) -> str:
    app = web.Application()
    app.router.add_get("/health", healthy)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    return f"https://127.0.0.1:{runner.addresses[0][1]}"


async def checked(environ: dict[str, str]) -> dict[str, Any]:
    """Run `hsi config --check` beside the servers of this test."""
    app = Typer()
    app.command()(config)
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["--check", "--json"], env={"AI_CONNECT_TIMEOUT": "5", **environ}
    )
    return {row["service"]: row for row in json.loads(done.stdout)["probes"]}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_who_shows_a_certificate_of_the_authority_is_talked_to(encrypted: Encrypted) -> None:
    rows = await checked(encrypted.environ(encrypted.authority))
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        SETTINGS, "answers"
    ), rows


@pytest.mark.parametrize("whose", ["nobody", "stranger", "other host"])
async def test_who_does_not_is_refused_and_the_setting_is_named(
    encrypted: Encrypted, whose: str
) -> None:
    environ = encrypted.environ(
        {"nobody": None, "stranger": encrypted.stranger}.get(whose, encrypted.authority)
    )
    if whose == "other host":
        environ = {name: url.replace("127.0.0.1", "localhost") for name, url in environ.items()}
    rows = await checked(environ)
    # libpq alone checks nobody unless it is told by whom; the URL's sslmode decides.
    asked = SETTINGS.keys() - ({"postgres"} if whose == "nobody" else set())
    for service in asked:
        setting = SETTINGS[service]
        assert rows[service]["status"] == "fails", (service, rows[service])
        assert setting in rows[service]["message"], rows[service]


async def test_an_authority_that_cannot_be_read_is_named(
    encrypted: Encrypted, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for file in (broken, tmp_path / "gone.pem"):
        rows = await checked(encrypted.environ(file))
        for service, setting in SETTINGS.items():
            assert rows[service]["message"].startswith(f"{setting}={file} cannot be read"), rows


async def test_the_log_and_the_tables_work_over_tls(encrypted: Encrypted) -> None:
    settings = load_settings(environ=encrypted.environ(encrypted.authority))
    assert settings.redis_url is not None
    assert settings.database_dsn is not None
    log = await EventLog.open(settings.redis_url)
    try:
        sampled = GpuSampled(
            camera_id=SYSTEM, host="h", sampled_at=datetime.now(UTC), source="none"
        )
        await log.append(new(sampled, "gpu"))
        (envelope,) = await log.read("system", log.partition_of(SYSTEM), START, 10)
        assert envelope.event == sampled
    finally:
        await log.close()
    assert await asyncio.to_thread(migrate, settings.database_dsn)
    assert await asyncio.to_thread(pending, settings.database_dsn) == []
    pool = await open_pool(settings.database_dsn, name="test", max_size=1)
    try:
        assert (await Queries(pool).service_states()) == []
        async with pool.connection() as connection:
            assert connection.info.parameter_status("server_version")
    finally:
        await pool.close()


async def test_postgresql_without_tls_is_refused_once_an_authority_is_given(
    encrypted: Encrypted, tmp_path: Path
) -> None:
    async with tls_front(None, tmp_path / "nobody", postgres=True) as port:
        url = f"postgresql://me:tiger@127.0.0.1:{port}/hsi"
        named = {"DATABASE_URL": url, "DATABASE_CA_PATH": str(encrypted.authority)}
        dsn = load_settings(environ=named).database_dsn
        assert dsn is not None
        with pytest.raises(ServiceUnavailableError, match="DATABASE_CA_PATH") as caught:
            await asyncio.to_thread(migrate, dsn)
        assert "does not support SSL" in str(caught.value)
        assert "tiger" not in str(caught.value)


async def test_the_files_are_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    gone = quote(str(tmp_path / "gone.pem"), safe="")
    with pytest.raises(HsiError, match=r"REDIS_CA_PATH=.*gone\.pem cannot be read"):
        await EventLog.open(f"rediss://127.0.0.1:1/0?ssl_ca_certs={gone}")
    dsn = f"postgresql://me@127.0.0.1:1/hsi?sslmode=verify-full&sslrootcert={gone}"
    with pytest.raises(PermanentError, match=r"DATABASE_CA_PATH=.*gone\.pem cannot be read"):
        await open_pool(dsn, name="test")


@pytest.mark.parametrize("name", ["NEMOTRON_URL", "RTDETR_URL", "CLIP_URL"])
async def test_a_login_in_the_address_is_sent_and_never_shown(name: str) -> None:
    async def guarded(request: web.Request) -> web.Response:
        known = request.headers.get("Authorization") == encode_basic_auth("house", "zebra @1")
        return await healthy(request) if known else web.Response(status=401)

    async with detect_service.serve(guarded, guarded) as url:
        rows = []
        for login in ("house:zebra%20%401", "house:lion"):
            probes = await checked({name: url.replace("://", f"://{login}@")})
            rows += [row for row in probes.values() if row["setting"] == name]
    right, wrong = rows
    assert (right["status"], wrong["status"]) == ("answers", "fails"), rows
    assert "401" in wrong["message"]
    for secret in ("zebra", "lion"):
        assert secret not in str(rows)
