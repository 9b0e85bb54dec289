"""What every process holds while it runs: settings, Postgres, Redis and the file store; opened and closed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from core.database import Database, open_database
from core.files import FileStore
from core.redis import open_redis
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    database: Database
    redis: Redis
    files: FileStore


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    redis = open_redis(settings)
    database = await open_database(settings, redis)
    try:
        yield Resources(settings, database, redis, FileStore(settings))
    finally:
        await database.close()
        await redis.aclose(close_connection_pool=True)
