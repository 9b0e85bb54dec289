"""The one way to Postgres: short transactions, and what to ring once they are committed.

`.commit(` appears in this file only. A hook given to `after_commit` takes the Redis client first; if Redis does not
answer, the hook is logged and dropped, because every doorbell can be rung again from a row.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, Executable, Row, func
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.log import get_logger
from core.settings import Settings

log = get_logger()

Hook = Callable[..., Awaitable[Any]]

# A verb that waits longer than this for a row lock is better failed and retried than piled up behind.
_LOCK_TIMEOUT = "5s"
_STATEMENT_TIMEOUT = "30s"


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` as operators write it, with the driver we use."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """A moment by the database's clock, the only one on which all processes agree."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class Transaction:
    """One open transaction. Statements are SQLAlchemy Core; rows come back as named tuples."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._hooks: list[tuple[Hook, tuple[Any, ...]]] = []

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return await self._connection.execute(statement, parameters)

    async def first(self, statement: Executable) -> Row[Any] | None:
        return (await self.execute(statement)).first()

    async def one(self, statement: Executable) -> Row[Any]:
        return (await self.execute(statement)).one()

    async def all(self, statement: Executable) -> Sequence[Row[Any]]:
        return (await self.execute(statement)).all()

    async def scalar(self, statement: Executable) -> Any:
        return (await self.execute(statement)).scalar()

    def after_commit(self, hook: Hook, *arguments: Any) -> None:
        """Calls `hook(redis, *arguments)` once the transaction is committed, and never if it is not."""
        self._hooks.append((hook, arguments))

    async def ring(self, redis: Redis) -> None:
        for hook, arguments in self._hooks:
            try:
                await hook(redis, *arguments)
            except (RedisError, OSError) as error:
                log.warning("doorbell lost", hook=hook.__qualname__, error=str(error))


class Database:
    def __init__(self, engine: AsyncEngine, redis: Redis) -> None:
        self.engine = engine
        self._autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._redis = redis

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits when the block ends, rolls back when it raises, then rings."""
        async with self.engine.connect() as connection:
            transaction = Transaction(connection)
            yield transaction
            await connection.commit()
        await transaction.ring(self._redis)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Transaction]:
        """Each statement is its own transaction, without the two round trips of BEGIN and COMMIT.

        For reading, and for verbs that write in one statement; rings when the block ends.
        """
        async with self._autocommitting.connect() as connection:
            transaction = Transaction(connection)
            yield transaction
        await transaction.ring(self._redis)

    async def close(self) -> None:
        await self.engine.dispose()


def open_database(settings: Settings, redis: Redis) -> Database:
    engine = create_async_engine(
        sqlalchemy_url(settings.database_url),
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=10,
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        connect_args={
            "connect_timeout": 5,
            "options": f"-c lock_timeout={_LOCK_TIMEOUT} -c statement_timeout={_STATEMENT_TIMEOUT} -c timezone=UTC",
        },
    )
    return Database(engine, redis)
