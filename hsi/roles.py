"""`hsi agents`, `api`, `migrate` and `version`: one process a role, services elsewhere."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from domain.errors import HsiError
from runtime.logs import configure_logs, ship_logs
from runtime.settings import Settings, load_settings

EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]


def agents(
    roles: Annotated[
        list[str],
        typer.Argument(
            help="watch, detect, batch, assess, refine, enrich, scene, notify, trial, monitor,"
            " project, retention, traces",
            metavar="ROLE",
        ),
    ],
    env_file: EnvFile = None,
) -> None:
    """Run one or more agent roles in this process until Ctrl-C.

    Needs REDIS_URL (the roles project and retention DATABASE_URL too); `hsi up` runs all roles
    with embedded servers instead.

    Examples: `hsi agents detect` · `hsi agents watch detect batch assess refine monitor`
    """
    settings = load_settings(env_file)
    _require(settings, "agents", database=bool({"project", "retention"} & set(roles)))
    _start_logs(settings, "+".join(roles))
    # Imported here: what is missing is said at once, and only what runs is loaded.
    from agents.app import run_roles

    asyncio.run(run_roles(settings, roles))


def api(
    env_file: EnvFile = None,
    openapi: Annotated[
        bool, typer.Option("--openapi", help="Print the OpenAPI document and end.")
    ] = False,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Print the AsyncAPI document and end.")
    ] = False,
) -> None:
    """Run the REST and WebSocket API in this process until Ctrl-C.

    Needs REDIS_URL and DATABASE_URL; `hsi up` runs it with embedded servers instead.

    Examples: `hsi api` · `API_PORT=8080 hsi api` · `hsi api --openapi > openapi.json` ·
    `hsi api --asyncapi > asyncapi.json`
    """
    settings = load_settings(env_file)
    if openapi:
        from api.app import openapi_document

        print(openapi_document(settings.app_name, settings.app_version).decode())
        return
    if asyncapi:
        from api.asyncapi import asyncapi_document

        print(asyncapi_document(settings.app_name, settings.app_version).decode())
        return
    _require(settings, "api", database=True)
    _start_logs(settings, "api")
    from api.serve import run_api

    asyncio.run(run_api(settings))


def migrate(env_file: EnvFile = None) -> None:
    """Bring the database that DATABASE_URL names to this version's schema.

    Several processes may do it at once; nothing happens when nothing is missing. `hsi up` does
    it by itself.

    Examples: `hsi migrate` · `DATABASE_URL=postgresql://… hsi migrate`
    """
    from projections.migrate import migrate as apply_migrations

    dsn = load_settings(env_file).database_dsn
    if dsn is None:
        raise HsiError(
            "DATABASE_URL is not set, so there is no database to migrate: set it, or run"
            " `hsi up`, which starts and migrates an embedded one"
        )
    names = apply_migrations(dsn)
    print("\n".join(f"applied {name}" for name in names) or "nothing to apply")


def version(env_file: EnvFile = None) -> None:
    """Show the product's name and version.

    Example: `hsi version`
    """
    settings = load_settings(env_file)
    print(f"{settings.app_name} {settings.app_version}")


def _start_logs(settings: Settings, role: str) -> None:
    configure_logs(settings, role)
    if settings.log_db_enabled and settings.database_dsn is not None:
        # Imported here: a process without the database does not load its driver.
        from projections.log_table import LogWriter

        ship_logs(settings, role, LogWriter(settings.database_dsn))


def _require(settings: Settings, command: str, *, database: bool) -> None:
    wanted = {"REDIS_URL": settings.redis_url}
    if database:
        wanted["DATABASE_URL"] = settings.database_url
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise HsiError(
            f"`hsi {command}` runs against services that are already there, but"
            f" {' and '.join(missing)} is not set: set it, or run `hsi up`, which starts embedded"
            " servers"
        )
