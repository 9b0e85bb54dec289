"""The one way to Postgres: short transactions, and what to ring once they are committed.

`.commit(` appears in this file only. A hook given to `after_commit` takes the Redis client first; if Redis does not
answer, the hook is logged and dropped, because every doorbell can be rung again from a row.
"""

import select
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import ARRAY, ClauseElement, ColumnElement, Executable, Row, Text, any_, event, func, literal
from sqlalchemy.dialects.postgresql import psycopg as sqlalchemy_psycopg
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.log import get_logger
from core.settings import Settings

log = get_logger()

_DIALECT = sqlalchemy_psycopg.PGDialect_psycopg(json_serializer=lambda value: _dumps(value))

Hook = Callable[..., Awaitable[Any]]
LastHook = Callable[["Transaction", list[Any]], Awaitable[None]]

# A verb that waits longer than this for a row lock is better failed and retried than piled up behind.
_LOCK_TIMEOUT = "5s"
_STATEMENT_TIMEOUT = "30s"
_POOL_TIMEOUT_SECONDS = 10
# A network that acknowledges nothing for so long is cut: a node notices with the next beat of its heart, and must have
# time left within its lease to report by another connection.
_SILENCE_MS = 8_000
_ASK_AFTER_SECONDS, _ASK_EVERY_SECONDS = 6, 2
#: What each session asks of Postgres. Over TCP the other end is watched there, too: otherwise the locks of a machine
#: that was cut off would be held for hours. And a process that stands still holds none for long.
_SESSION = {
    "lock_timeout": _LOCK_TIMEOUT,
    "statement_timeout": _STATEMENT_TIMEOUT,
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": _ASK_AFTER_SECONDS,
    "tcp_keepalives_interval": _ASK_EVERY_SECONDS,
    "tcp_user_timeout": _SILENCE_MS,
    "timezone": "UTC",
    # As on any disk that does not turn: or where a tenth of all rows is live, each pass would read all the others.
    "random_page_cost": 1.1,
}


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` as operators write it, with the driver we use."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """A moment by the database's clock, the only one on which all processes agree."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def one_of(column: Any, values: Collection[str]) -> ColumnElement[bool]:
    """As `column.in_(values)`, but one parameter: thousands of them take longer to write down than to look up."""
    return column == any_(literal(list(values), ARRAY(Text)))


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class Hot:
    """A statement of the hot path: built and compiled once, with its parameters named.

    SQLAlchemy spends 0.4 ms on what psycopg does in 0.25; a prediction has four such statements.
    """

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.statement = statement
        self.sql = str(compiled)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._names = tuple(compiled.params)
        self._adapt = compiled._bind_processors

    def bind(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        bound = {name: parameters.get(name, self._fixed.get(name)) for name in self._names}
        for name, adapt in self._adapt.items():
            bound[name] = adapt(bound[name])
        return bound


class Doorbells:
    """What to ring once everything is committed."""

    def __init__(self) -> None:
        self._hooks: list[tuple[Hook, tuple[Any, ...]]] = []

    def after_commit(self, hook: Hook, *arguments: Any) -> None:
        """Calls `hook(redis, *arguments)` once the transaction is committed, and never if it is not."""
        self._hooks.append((hook, arguments))

    async def ring(self, redis: Redis) -> None:
        for hook, arguments in self._hooks:
            try:
                await hook(redis, *arguments)
            except (RedisError, OSError) as error:
                log.warning("doorbell lost", hook=hook.__qualname__, error=str(error))


class Direct(Doorbells):
    """One hot statement at a time, each its own transaction."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        super().__init__()
        self._connection = connection

    async def run(self, hot: Hot, parameters: Mapping[str, Any]) -> Any:
        """The first row, or None."""
        cursor = await self._connection.execute(hot.sql, hot.bind(parameters))
        return await cursor.fetchone()

    async def rows(self, hot: Hot, parameters: Mapping[str, Any]) -> list[Any]:
        """Every row."""
        cursor = await self._connection.execute(hot.sql, hot.bind(parameters))
        return await cursor.fetchall()


class Transaction(Doorbells):
    """One open transaction. Statements are SQLAlchemy Core; rows come back as named tuples."""

    def __init__(self, connection: AsyncConnection, commits: bool = True) -> None:
        super().__init__()
        self._connection = connection
        self._commits = commits
        self._last: dict[LastHook, list[Any]] = {}

    def before_commit(self, hook: LastHook, item: Any) -> None:
        """Calls `hook(tx, items)` once, with all items it was given, as the last thing this transaction does: for
        what takes a lock that everybody wants. Nothing is locked after it, so that it cannot be part of a deadlock."""
        if not self._commits:
            raise RuntimeError(f"{hook.__qualname__} must be one with what else is written: give it a transaction().")
        self._last.setdefault(hook, []).append(item)

    async def finish(self) -> None:
        """To be called by the one who commits."""
        for hook, items in self._last.items():
            await hook(self, items)

    async def run(self, hot: Hot, parameters: Mapping[str, Any]) -> Any:
        """The first row of a hot statement, or None."""
        return (await self._connection.execute(hot.statement, parameters)).first()

    async def rows(self, hot: Hot, parameters: Mapping[str, Any]) -> list[Any]:
        """Every row of a hot statement."""
        return list((await self._connection.execute(hot.statement, parameters)).all())

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


class Database:
    """A transaction may be `transaction()`, statements of their own `autocommit()`, or hot statements `direct()`."""

    def __init__(self, engine: AsyncEngine, pool: AsyncConnectionPool, redis: Redis) -> None:
        self.engine = engine
        self._pool = pool
        self._autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._redis = redis

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits when the block ends, rolls back when it raises, then rings."""
        async with self.engine.connect() as connection:
            transaction = Transaction(connection)
            yield transaction
            await transaction.finish()
            await connection.commit()
        await transaction.ring(self._redis)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Transaction]:
        """Each statement is its own transaction, without the two round trips of BEGIN and COMMIT.

        For reading, and for verbs that write in one statement; rings when the block ends.
        """
        async with self._autocommitting.connect() as connection:
            transaction = Transaction(connection, commits=False)
            yield transaction
        await transaction.ring(self._redis)

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[Direct]:
        """For hot statements only. Fails like the others do, with SQLAlchemy's errors."""
        try:
            async with self._living() as connection:
                direct = Direct(connection)
                yield direct
        except psycopg.Error as error:
            raise DBAPIError.instance("hot statement", None, error, psycopg.Error, hide_parameters=True) from error
        await direct.ring(self._redis)

    @asynccontextmanager
    async def _living(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Not the pool's own check, which pauses for seconds after each dead connection."""
        while _is_dead(connection := await self._pool.getconn()):
            await connection.close()
            await self._pool.putconn(connection)
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)

    async def close(self) -> None:
        await self._pool.close()
        await self.engine.dispose()


async def open_database(settings: Settings, redis: Redis) -> Database:
    connecting = {
        "connect_timeout": 5,
        # On a network that loses everything without a word a statement would hang for a quarter of an hour.
        "tcp_user_timeout": _SILENCE_MS,
        "keepalives_idle": _ASK_AFTER_SECONDS,
        "keepalives_interval": _ASK_EVERY_SECONDS,
        "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
    }
    engine = create_async_engine(
        sqlalchemy_url(settings.database_url),
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        # Inputs may hold secrets, and errors are logged.
        hide_parameters=True,
        connect_args=connecting,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    pool = AsyncConnectionPool(
        settings.database_url,
        min_size=1,
        max_size=settings.database_pool,
        timeout=_POOL_TIMEOUT_SECONDS,
        open=False,
        configure=_configure,
        kwargs={**connecting, "autocommit": True, "row_factory": namedtuple_row},
    )
    await pool.open()
    return Database(engine, pool, redis)


async def _configure(connection: psycopg.AsyncConnection) -> None:
    set_json_loads(orjson.loads, connection)


def _is_dead(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server has hung up: on a connection that asks for nothing, nothing but that can be read. Costs no
    round trip, and spares callers one error for each idle connection after Postgres was restarted."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _refuse_dead(connection: Any, _record: Any, _proxy: Any) -> None:
    if _is_dead(connection.driver_connection):
        raise DisconnectionError("Postgres has closed this connection.")
