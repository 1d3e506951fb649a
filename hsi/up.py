"""`hsi up`: one command that runs everything on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from domain.errors import HsiError
from hsi import report
from hsi.camera_folder import note
from hsi.plan import Places, Wishes
from hsi.screen import Screen, open_screen
from hsi.supervisor import Supervisor
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings, load_settings


def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port of the API instead of API_PORT; 0: a free one."
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the embedded servers keep their data, instead of HSI_STATE_DIR."),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(help="Folder with one folder a camera, instead of FOSCAM_BASE_PATH."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Play real pictures into a demo camera.")
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write base URL and process ids there as JSON once everything answers."),
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Run everything on this machine until Ctrl-C: servers, agents, API, and the models.

    Valkey and PostgreSQL are embedded unless REDIS_URL and DATABASE_URL name others; so are the
    detector and the language model unless RTDETR_URL and NEMOTRON_URL do.

    Examples: `hsi up` · `hsi up --port 8080 --state ./state --cameras ./cameras --demo`
    """
    settings = load_settings(env_file)
    wishes = Wishes(port, state, cameras, demo, ready_file, env_file)
    places = Places.of(settings, wishes)
    report.remove(ready_file)
    screen = open_screen()
    try:
        _run(settings, places, wishes, screen)
    finally:
        screen.close()


def _run(settings: Settings, places: Places, wishes: Wishes, screen: Screen) -> None:
    for warning in settings.warnings:
        screen.say(f"! {warning}", style="yellow")
    _make_camera_folder(places.cameras)
    screen.say(f"starting with state folder {places.state}")
    servers = EmbeddedServers.start(
        places.state,
        want_redis=settings.redis_url is None,
        want_postgres=settings.database_url is None,
    )
    note(places.state, places.cameras)
    try:
        asyncio.run(Supervisor(settings, places, wishes, servers, screen).run())
    finally:
        servers.stop()


def _make_camera_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = (
            f"camera folder {folder} cannot be made: {error.strerror}; choose another with "
            "--cameras or FOSCAM_BASE_PATH"
        )
        raise HsiError(msg) from error
