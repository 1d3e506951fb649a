"""Migrations: each can be undone, again gives the same schema, two may start at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from domain.errors import ServiceUnavailableError
from projections.database import BadDatabaseUrlError
from projections.migrate import MIGRATIONS, migrate, pending, roll_back

CATALOG = """
SELECT 'column', table_name, column_name, data_type, is_nullable, column_default,
       generation_expression
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '', ''
FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'view', viewname, definition, '', '', '', ''
FROM pg_views WHERE schemaname = 'public'
ORDER BY 1, 2, 3
"""
NAMES = sorted(path.stem for path in MIGRATIONS.glob("*.sql") if ".rollback" not in path.name)


def catalog(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(CATALOG).fetchall()
    return [row for row in rows if "yoyo" not in row[1]]


def test_every_migration_has_a_rollback() -> None:
    assert NAMES
    for name in NAMES:
        assert (MIGRATIONS / f"{name}.rollback.sql").is_file(), name


def test_migrate_applies_what_is_pending_once(empty_database_url: str) -> None:
    url = empty_database_url.replace("postgresql://", "postgresql+asyncpg://")
    assert pending(url) == NAMES
    assert migrate(url) == NAMES
    assert pending(url) == []
    assert migrate(url) == []


def test_rolled_back_is_empty_and_applied_again_is_as_fresh(empty_database_url: str) -> None:
    migrate(empty_database_url)
    fresh = catalog(empty_database_url)
    assert roll_back(empty_database_url) == NAMES[::-1]
    assert catalog(empty_database_url) == []
    migrate(empty_database_url)
    assert catalog(empty_database_url) == fresh


def test_two_processes_may_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        applied = list(threads.map(migrate, [empty_database_url, empty_database_url]))
    assert sorted(applied) == [[], NAMES]


def test_a_server_that_is_away_is_named_without_its_password(state_folder: object) -> None:
    url = f"postgresql://someone:geheim@/hsi?host={state_folder}"
    with pytest.raises(ServiceUnavailableError, match="cannot be reached") as caught:
        migrate(url)
    assert "geheim" not in str(caught.value)


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(BadDatabaseUrlError, match="postgresql://"):
        migrate("sqlite:///hsi.db")
