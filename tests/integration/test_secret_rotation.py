"""Another password for Redis: by its secret file and a restart, and no event is lost."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from support.logs import new
from support.servers import PrivateValkey

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM, GpuSampled
from runtime.embedded.valkey import ask
from runtime.settings import load_settings
from streams.envelope import START
from streams.log import EventLog


def sampled(number: int) -> GpuSampled:
    at = datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)
    return GpuSampled(camera_id=SYSTEM, host="h", sampled_at=at, source="none")


async def opened(environ: dict[str, str]) -> EventLog:
    """Open the log as a process that starts now."""
    settings = load_settings(environ=environ)
    assert settings.redis_url is not None
    assert settings.redis_password is not None
    return await EventLog.open(
        settings.redis_url, password=settings.redis_password.get_secret_value()
    )


async def test_a_rotated_password_loses_nothing(
    private_valkey: PrivateValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server, file = private_valkey.server, tmp_path / "redis_password.txt"
    file.write_text(server.folders.secret())
    file.chmod(0o600)
    environ = {
        "REDIS_URL": f"unix://{quote(str(server.socket))}",
        "REDIS_PASSWORD_FILE": str(file),
    }
    before = await opened(environ)
    await before.append(new(sampled(1), "first"))
    rotate = f"AUTH {server.folders.secret()}\r\nCONFIG SET requirepass another\r\n".encode()
    assert ask(str(server.socket), rotate) == b"+OK\r\n" * 2
    # A connection that is open goes on; what starts with the old password waits and says why.
    await before.append(new(sampled(2), "second"))
    with pytest.raises(ServiceUnavailableError, match="refuses the login"):
        await opened(environ)
    await before.close()
    file.write_text("another\n")
    after = await opened(environ)
    await after.append(new(sampled(3), "third"))
    run = await after.read("system", after.partition_of(SYSTEM), START, 10)
    await after.close()
    assert [each.event for each in run] == [sampled(1), sampled(2), sampled(3)]
