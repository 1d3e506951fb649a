"""Brings a database to the schema of this version with yoyo; blocking."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import default_migration_table

from domain.errors import ServiceUnavailableError
from projections.database import (
    CONNECT_SECONDS,
    DATABASE,
    advised,
    check_authority,
    libpq_url,
    shown_url,
)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

LOCK = 0x485349  # "HSI"
"""Advisory lock under which one process at a time migrates; it ends with its connection, so a
killed process leaves nothing behind (yoyo's own lock is a row that would stay)."""


def migrate(database_url: str) -> list[str]:
    """Apply what is missing and return the applied names; several processes may call at once."""
    with _locked(database_url) as backend:
        todo = backend.to_apply(_migrations())
        names = [migration.id for migration in todo]
        backend.apply_migrations(todo)
    return names


def pending(database_url: str) -> list[str]:
    """Return the names of the migrations that the database still lacks."""
    with _locked(database_url) as backend:
        return [migration.id for migration in backend.to_apply(_migrations())]


def roll_back(database_url: str) -> list[str]:
    """Undo every applied migration, newest first, and return their names."""
    with _locked(database_url) as backend:
        todo = backend.to_rollback(_migrations())
        names = [migration.id for migration in todo]
        backend.rollback_migrations(todo)
    return names


def _migrations() -> Any:  # noqa: ANN401 - yoyo is untyped
    return read_migrations(str(MIGRATIONS))


@contextmanager
def _locked(database_url: str) -> Iterator[PostgresqlPsycopgBackend]:
    """Give a yoyo backend while no other process migrates this database."""
    url = libpq_url(database_url)
    check_authority(url)
    try:
        guard = psycopg.connect(url, autocommit=True, connect_timeout=int(CONNECT_SECONDS))
    except psycopg.OperationalError as error:
        why = advised(str(error), url)
        message = f"PostgreSQL at {shown_url(url)} cannot be reached to migrate it: {why}"
        raise ServiceUnavailableError(DATABASE, message) from error
    with guard:
        guard.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        backend = PostgresqlPsycopgBackend(_yoyo_uri(url), default_migration_table)
        backend.init_database()
        try:
            yield backend
        finally:
            backend.connection.close()


def _yoyo_uri(url: str) -> DatabaseURI:
    """Return the URL in yoyo's parts; a socket folder is a libpq `host` like any other."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value}
    return DatabaseURI(
        scheme="postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        hostname=parts.pop("host", None),
        port=int(parts.pop("port", "5432")),
        database=parts.pop("dbname", None),
        args=parts,
    )
