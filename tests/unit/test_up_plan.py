"""What `hsi up` decides before it starts anything."""

import json
import socket
import stat
from pathlib import Path

import pytest

from domain.errors import HsiError
from hsi import language_model, plan
from hsi.camera_folder import note, pictures_of
from hsi.plan import Places, Wishes
from runtime.settings import Settings, load_settings

PLACES = Places("0.0.0.0", 8123, Path("/state"), Path("/cameras"))


def settings(**values: object) -> Settings:
    return Settings.model_validate({"api_host": "127.0.0.1", "api_port": 0, **values})


def test_command_line_wins_over_settings(tmp_path: Path) -> None:
    wishes = Wishes(state=tmp_path / "state", cameras=tmp_path / "cameras")
    places = Places.of(settings(hsi_state_dir=Path("/elsewhere")), wishes)
    assert places.state == tmp_path / "state"
    assert places.cameras == tmp_path / "cameras"
    assert places.port > 0
    assert places.base_url == f"http://127.0.0.1:{places.port}"


def test_any_address_is_reached_by_loopback() -> None:
    assert PLACES.base_url == "http://127.0.0.1:8123"
    assert Places("::1", 80, Path("/"), Path("/")).base_url == "http://[::1]:80"
    assert Places("192.0.2.7", 80, Path("/"), Path("/")).base_url == "http://192.0.2.7:80"


def test_taken_port_names_the_port_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HsiError, match=rf"port {port} at 127\.0\.0\.1.*--port or API_PORT"):
            Places.of(settings(), Wishes(port=port))


def test_without_a_chosen_camera_folder_it_lies_in_the_state_folder(tmp_path: Path) -> None:
    environ = {"API_PORT": "0", "HSI_STATE_DIR": str(tmp_path / "state")}
    no_env = tmp_path / "empty.env"
    no_env.touch()
    unset = load_settings(no_env, environ)
    absent = unset.model_copy(update={"foscam_base_path": tmp_path / "absent"})
    assert Places.of(absent, Wishes()).cameras == tmp_path / "state" / "cameras"
    chosen = load_settings(no_env, {**environ, "FOSCAM_BASE_PATH": str(tmp_path / "mine")})
    assert Places.of(chosen, Wishes()).cameras == tmp_path / "mine"


def test_commands_beside_it_look_for_pictures_where_it_does(tmp_path: Path) -> None:
    (state := tmp_path / "state").mkdir()
    mine = settings(hsi_state_dir=state, foscam_base_path=tmp_path / "absent")
    assert pictures_of(mine).base == state / "cameras"
    note(state, tmp_path / "caf\udce9 of --cameras")
    assert pictures_of(mine).base == tmp_path / "caf\udce9 of --cameras"
    elsewhere = mine.changed({"redis_url": "redis://elsewhere:6379/0"}, "test")
    assert pictures_of(elsewhere).base == tmp_path / "absent"


def test_children_get_the_settings_as_they_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / "my.env"
    env_file.write_text("DEDUPE_TTL_SECONDS=77\nAPI_PORT=1\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    env = plan.environment(PLACES, Wishes(env_file=env_file), {"REDIS_URL": "unix:///x"})
    assert env["DEDUPE_TTL_SECONDS"] == "77"
    assert env["LOG_LEVEL"] == "ERROR"
    assert env["API_PORT"] == "8123"
    assert env["FOSCAM_BASE_PATH"] == "/cameras"
    assert env["HSI_STATE_DIR"] == "/state"
    assert env["REDIS_URL"] == "unix:///x"
    assert env["PYTHONPATH"].split(":")[1:] == ["/mine"]


def test_children_find_what_takes_effect_at_once_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is started again must not fall back to what a file said before an edit."""
    monkeypatch.chdir(tmp_path)
    env_file, runtime_file = tmp_path / "my.env", tmp_path / "data/runtime.env"
    runtime_file.parent.mkdir()
    env_file.write_text("BATCH_WINDOW_SECONDS=77\nRETENTION_DAYS=7\nLOG_LEVEL=DEBUG\n")
    runtime_file.write_text("RETENTION_DAYS=8\n")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    env = plan.environment(PLACES, Wishes(env_file=env_file), {})
    child = load_settings(environ=env)
    assert (child.batch_window_seconds, child.retention_days, child.log_level) == (77, 8, "ERROR")
    runtime_file.write_text("")
    assert load_settings(environ=env).retention_days == 7
    assert child.again().retention_days == 7


def test_every_role_runs_in_exactly_one_process() -> None:
    roles = [plan.pipeline(PLACES, {}), plan.project(PLACES, {}), plan.api(PLACES, {})]
    contained = [name for role in roles for name in role.contains]
    assert sorted(contained) == sorted(
        ["watch", "detect", "batch", "assess", "refine", "monitor", "project", "retention", "api"]
    )
    for role in roles:
        assert role.env["HSI_READY_FILE"] == str(role.ready_file)
        assert role.log == Path(f"/state/logs/{role.name}.log")


def test_embedded_model_only_where_no_service_is_named() -> None:
    assert language_model.choose(settings(embedded_llm=False)) is None
    assert language_model.choose(settings(nemotron_url="http://localhost:8091")) is None
    chosen = language_model.choose(settings(embedded_llm_model="smollm2-135m"))
    assert chosen is not None
    assert chosen.artefact.name == "smollm2-135m"
    assert chosen.environment["NEMOTRON_URL"] == f"http://127.0.0.1:{chosen.port}"
    other = language_model.choose(settings())
    assert other is not None
    assert other.key != chosen.key


def test_the_models_key_stays_off_its_command_line(tmp_path: Path) -> None:
    model = language_model.choose(settings())
    assert model is not None
    role = language_model.role(model, Places("", 1, tmp_path, tmp_path), {})
    assert model.key not in json.dumps(role.argv)
    key_file = tmp_path / "llm.key"
    assert key_file.read_text() == model.key + "\n"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_progress_counts_what_has_arrived(tmp_path: Path) -> None:
    model = language_model.choose(settings(embedded_llm_model="smollm2-135m"))
    assert model is not None
    assert model.fetched_percent(tmp_path) == 0
    part = tmp_path / ".partial" / "smollm2-135m" / "hub"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.truncate(model.artefact.size // 2)
    assert model.fetched_percent(tmp_path) == 50
