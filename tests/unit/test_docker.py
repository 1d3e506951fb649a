"""docker/: what can be checked without a container engine.

Commands exist, variables are settings, images are pinned, references resolve, and the settings
that the compose file makes are settings that the product accepts.
"""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from agents.app import ROLES
from hsi.__main__ import COMMANDS
from runtime.settings import NAMES, PROJECT_ROOT, load_settings

DOCKER = PROJECT_ROOT / "docker"
COMPOSE_FILE = DOCKER / "docker-compose.yml"
COMPOSE_TEXT = COMPOSE_FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {n: s for n, s in SERVICES.items() if s["image"].startswith("home-security-intelligence:")}
DOCKERFILE = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))

SERVICE_VARIABLES = {"NEMOTRON_MODEL_FILE"}
"""Variables of the compose file that are no settings; docs/operations.md explains them."""
IMAGE_VARIABLES = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HSI_READY_FILE"}

_INTERPOLATION = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^{}]*))?\}")
_PINNED = re.compile(r"^[\w./-]+:[\w.-]*\d+\.?\d*[\w.-]*$")


def instructions(name: str) -> Iterator[str]:
    """Return the arguments of every instruction of one kind in the Dockerfile."""
    for line in DOCKERFILE.splitlines():
        if line.startswith(f"{name} "):
            yield line.removeprefix(name).strip()


def interpolated(value: object, given: Mapping[str, str]) -> str:
    """Return a value as compose would: `${NAME:-default}`."""
    return _INTERPOLATION.sub(lambda m: given.get(m[1]) or m[2] or "", str(value))


def image_environment() -> dict[str, str]:
    pairs = (pair.partition("=") for line in instructions("ENV") for pair in line.split())
    return {name: value for name, _, value in pairs}


def test_every_role_runs_exactly_once() -> None:
    commands = [service["command"] for service in OURS.values()]
    assert {command[0] for command in commands} <= set(COMMANDS)
    roles = [role for command in commands if command[0] == "agents" for role in command[1:]]
    assert sorted(roles) == sorted(ROLES)
    assert sorted(c[0] for c in commands if c[0] != "agents") == ["api", "migrate"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_a_role_is_given_are_settings_that_it_accepts(name: str) -> None:
    environment = OURS[name]["environment"]
    assert set(environment) <= NAMES
    for given in ({}, {"REDIS_PASSWORD": "r", "NEMOTRON_API_KEY": "k", "LOG_LEVEL": "debug"}):
        effective = {n: interpolated(v, given) for n, v in environment.items()}
        settings = load_settings(environ=image_environment() | effective)
        assert settings.redis_url is not None
        assert settings.database_dsn is not None
        assert settings.rtdetr_url == "grpc://triton:8001"
        assert settings.warnings == ()


def test_every_variable_is_a_setting_or_documented() -> None:
    used = {match[1] for match in _INTERPOLATION.finditer(COMPOSE_TEXT)}
    assert used - NAMES == SERVICE_VARIABLES
    operations = (PROJECT_ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for variable in SERVICE_VARIABLES:
        assert f"`{variable}`" in operations
    assert set(image_environment()) <= NAMES | IMAGE_VARIABLES


def test_images_are_pinned_by_tag() -> None:
    foreign = [s["image"] for s in SERVICES.values() if "build" not in s]
    base = [line.partition("=")[2] for line in instructions("ARG")]
    assert len(foreign) == 3
    assert len(base) == 2
    for image in foreign + base:
        assert _PINNED.match(image), image
        assert "latest" not in image


def test_references_inside_the_file_resolve() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service.get("volumes", []):
            source = interpolated(volume, {}).partition(":")[0]
            assert source.startswith((".", "/")) or source in COMPOSE["volumes"], volume
        for variable in ("RTDETR_URL", "NEMOTRON_URL", "REDIS_URL", "DATABASE_URL"):
            if variable in service.get("environment", {}):
                url = interpolated(service["environment"][variable], {})
                host = re.split(r"[:/@]+", url.partition("://")[2].rpartition("@")[2])[0]
                assert host in SERVICES, url
    assert (COMPOSE_FILE.parent / "../triton_models").is_dir()


def test_every_service_has_a_health_check_and_comes_back() -> None:
    assert any(instructions("HEALTHCHECK"))
    for name, service in SERVICES.items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert name in OURS or service["healthcheck"]["test"], name


def test_roles_reach_models_on_the_host() -> None:
    for service in OURS.values():
        assert "host.docker.internal:host-gateway" in service["extra_hosts"]


def test_redis_keeps_what_it_is_given() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_is_not_root_and_runs_the_command_line() -> None:
    scripts = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(instructions("USER")) == ["hsi"]
    assert list(instructions("ENTRYPOINT")) == ['["hsi"]']
    assert "hsi" in scripts


def test_the_image_gets_every_room_and_the_same_uv() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    let_in = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    wheel = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert set(wheel["targets"]["wheel"]["packages"]) <= let_in
    assert all((PROJECT_ROOT / name).exists() for name in let_in)
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert f"uv=={wanted} " in DOCKERFILE


def test_compose_itself_accepts_the_file_where_it_is_installed() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed here")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
