"""The statement that is prepared once a connection: answers, errors, what befalls connections."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from domain.errors import ServiceUnavailableError
from projections.database import Pool, open_pool
from projections.prepared import Prepared
from projections.reading import Reader


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=1)
    yield opened
    await opened.close()


async def asked(pool: Pool, statement: Prepared, value: str) -> bytes | None:
    return await Reader(pool)._prepared(statement, value)


async def test_it_answers_a_text_or_none(pool: Pool) -> None:
    twice = Prepared("twice", "SELECT $1::text || $1 WHERE $1 <> ''")
    assert await asked(pool, twice, "ä€") == "ä€ä€".encode()
    assert await asked(pool, twice, "") is None
    assert await asked(pool, twice, "a\0b") == "a\ufffdba\ufffdb".encode()
    long = "x" * 3_000_000  # More than a socket takes at once.
    assert await asked(pool, twice, long) == (long * 2).encode()


async def test_an_error_is_told_and_the_connection_stays_of_use(pool: Pool) -> None:
    number = Prepared("number", "SELECT ($1::text::int / 2)::text")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await asked(pool, number, "many")
    assert await asked(pool, number, "8") == b"4"
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await asked(pool, Prepared("nothing", "SELECT nothing($1)"), "8")
    async with pool.connection() as connection:
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_it_is_prepared_again_where_the_connection_has_forgotten(pool: Pool) -> None:
    same = Prepared("same", "SELECT $1::text")
    assert await asked(pool, same, "1") == b"1"
    async with pool.connection() as connection:
        await connection.execute("DEALLOCATE ALL")
    assert await asked(pool, same, "2") == b"2"
    assert await asked(pool, Prepared("same", "SELECT $1::text"), "3") == b"3"


async def test_who_stops_waiting_leaves_a_connection_of_use(pool: Pool) -> None:
    slow = Prepared("slow", "SELECT pg_sleep($1::text::int)::text")
    assert await asked(pool, slow, "0") == b""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked(pool, slow, "60"), 0.2)
    assert await asked(pool, slow, "0") == b""


async def test_a_connection_that_broke_is_told_and_replaced(pool: Pool) -> None:
    same = Prepared("same", "SELECT $1::text")
    end = Prepared("end", "SELECT pg_terminate_backend(pg_backend_pid())::text WHERE $1 = ''")
    assert await asked(pool, same, "1") == b"1"
    with pytest.raises(ServiceUnavailableError, match="PostgreSQL does not answer"):
        await asked(pool, end, "")
    assert await asked(pool, same, "2") == b"2"
