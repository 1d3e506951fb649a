"""What `hsi up` runs and where: places, role processes, their arguments and environment."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from domain.errors import HsiError
from hsi.camera_folder import camera_folder
from runtime.hot import HOT
from runtime.layers import ENV_FILE_VARIABLE, Found, read_layers, stands_in_file
from runtime.secret_files import SECRETS_VARIABLE, file_names
from runtime.settings import NAMES, PROJECT_ROOT, Settings
from runtime.tls import TlsPlan, tls_plan

PIPELINE: Final = ("watch", "detect", "batch", "assess", "refine", "monitor")
"""Roles that share one process: from a file in a camera's folder to an assessed event."""
PROJECTING: Final = ("project", "retention")
"""Roles that share the process beside it."""
ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, never bound here


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says over the settings."""

    port: int | None = None
    state: Path | None = None
    cameras: Path | None = None
    demo: bool = False
    ready_file: Path | None = None
    env_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of one `hsi up` is."""

    host: str
    port: int
    state: Path
    cameras: Path
    tls: TlsPlan | None = None
    """How the API speaks TLS; None: it does not."""

    @classmethod
    def of(cls, settings: Settings, wishes: Wishes) -> "Places":
        """Decide the places; raises HsiError when the port is taken."""
        state = (wishes.state or settings.state_dir).expanduser().absolute()
        port = settings.api_port if wishes.port is None else wishes.port
        return cls(
            host=settings.api_host,
            port=_free_port(settings.api_host, port),
            state=state,
            cameras=camera_folder(settings, state, wishes.cameras),
            tls=tls_plan(settings),
        )

    @property
    def near(self) -> str:
        """Address under which this machine itself reaches the API."""
        if self.host in ANY_ADDRESS:
            return "127.0.0.1"
        return self.host

    @property
    def base_url(self) -> str:
        """Return what to open in a browser here."""
        host = f"[{self.near}]" if ":" in self.near else self.near
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{host}:{self.port}"

    @property
    def logs(self) -> Path:
        """Return where the processes write what they say."""
        return self.state / "logs"

    @property
    def ready(self) -> Path:
        """Return the folder in which role processes say that they answer."""
        return self.state / "ready"


@dataclass(frozen=True, slots=True)
class Role:
    """One process of ours."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    contains: tuple[str, ...]
    """Roles inside this process, as the ready file names them."""
    ready_file: Path | None = None
    health_url: str | None = None
    stop_seconds: float = 10.0
    may_end: bool = False
    """True when it has an end of its own: then it is not started again."""
    beats: bool = False
    """True when it gives signs of life; otherwise its health URL, if it has one, is asked."""


def hsi_argv(*arguments: str) -> tuple[str, ...]:
    """Return how to run a command of ours: -P, or a folder `agents` in the working folder wins."""
    return (sys.executable, "-P", "-m", "hsi", *arguments)


def environment(places: Places, wishes: Wishes, added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of all children: settings as read now, the places, what was added."""
    layers = read_layers(NAMES, wishes.env_file, os.environ)
    search = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {name: value for name, value in os.environ.items() if name not in file_names(NAMES)}
    return {
        **own,
        # What stood in files is handed on by value: a child that read them again would take the
        # password of another server for the embedded one's.
        SECRETS_VARIABLE: os.devnull,
        **{
            name: found.value
            for name, found in layers.values.items()
            if not _read_again(name, found)
        },
        **({ENV_FILE_VARIABLE: str(wishes.env_file.absolute())} if wishes.env_file else {}),
        "PYTHONPATH": os.pathsep.join(search),
        "API_PORT": str(places.port),
        "HSI_STATE_DIR": str(places.state),
        "FOSCAM_BASE_PATH": str(places.cameras),
        **added,
    }


def _read_again(name: str, found: Found) -> bool:
    """Say whether children find a value where we did: what they are told by value is fixed."""
    return name.lower() in HOT and stands_in_file(found)


def pipeline_roles(settings: Settings) -> tuple[str, ...]:
    """Return the roles from file to assessment, and those of optional services behind it."""
    enriching = ("enrich",) if settings.enrichment_urls else ()
    telling = ("notify",) if settings.alert_groups else ()
    return (*PIPELINE, *enriching, *telling, *settings.scene_groups)


def projecting_roles(settings: Settings) -> tuple[str, ...]:
    """Return the roles of the process beside it, with the traces where a collector is given."""
    tracing = ("traces",) if settings.otel_exporter_otlp_endpoint else ()
    return (*PROJECTING, *tracing)


def pipeline(places: Places, env: Mapping[str, str], roles: tuple[str, ...] = PIPELINE) -> Role:
    """Return the process from file to assessment, with these of its roles."""
    return _agents("pipeline", roles, places, env, stop_seconds=15.0)


def trial(places: Places, env: Mapping[str, str]) -> Role:
    """Return the process that compares candidates, which gives way to all others."""
    return _agents("trial", ("trial",), places, env, stop_seconds=15.0)


def project(places: Places, env: Mapping[str, str], roles: tuple[str, ...] = PROJECTING) -> Role:
    """Return the process that keeps the read models, and deletes what is too old."""
    return _agents("project", roles, places, env, stop_seconds=15.0)


def _agents(
    name: str,
    roles: tuple[str, ...],
    places: Places,
    env: Mapping[str, str],
    *,
    stop_seconds: float,
) -> Role:
    ready_file = places.ready / f"{name}.json"
    return Role(
        name=name,
        argv=hsi_argv("agents", *roles),
        env={**env, "HSI_READY_FILE": str(ready_file)},
        log=places.logs / f"{name}.log",
        contains=roles,
        ready_file=ready_file,
        stop_seconds=stop_seconds,
        beats=True,
    )


def api(places: Places, env: Mapping[str, str]) -> Role:
    """Return the process that serves REST and WebSockets."""
    # Who lets in nobody without a certificate does not let us in either: its ready file must do.
    asked = places.tls is None or places.tls.authority is None
    return Role(
        name="api",
        argv=hsi_argv("api"),
        env={**env, "HSI_READY_FILE": str(places.ready / "api.json")},
        log=places.logs / "api.log",
        contains=("api",),
        ready_file=places.ready / "api.json",
        health_url=f"{places.base_url}/api/system/health" if asked else None,
        beats=True,
    )


def demo(places: Places, env: Mapping[str, str]) -> Role:
    """Return the process that plays real pictures into a camera folder."""
    return Role(
        name="demo",
        argv=hsi_argv("demo", str(places.cameras)),
        env=env,
        log=places.logs / "demo.log",
        contains=("demo",),
        may_end=True,
    )


def task(name: str, arguments: tuple[str, ...], places: Places, env: Mapping[str, str]) -> Role:
    """Return a command that runs once, like a migration."""
    return Role(
        name=name,
        argv=hsi_argv(*arguments),
        env=env,
        log=places.logs / f"{name}.log",
        contains=(name,),
        may_end=True,
    )


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0; raises HsiError when somebody has it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
            return int(listener.getsockname()[1])
    except OSError as error:
        msg = (
            f"the API cannot use port {port} at {host}: {error.strerror}{_who_has(port)}; stop "
            "that one, or choose another port with --port or API_PORT (address: API_HOST)"
        )
        raise HsiError(msg) from error


def _who_has(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return ""  # some systems show this to root only
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,):
            return f" (by process {connection.pid})" if connection.pid else ""
    return ""
