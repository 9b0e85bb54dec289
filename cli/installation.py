"""One installation on this machine: its data folder, its servers, and the environment of its processes."""

from collections.abc import Mapping
from dataclasses import dataclass

from cli.embedded.postgres import Postgres, embedded_postgres
from cli.embedded.redis import Redis, embedded_redis
from cli.embedded.sockets import socket_folder
from cli.keys import Keys, keys
from core.settings import Settings, process_environment


@dataclass(frozen=True, slots=True)
class Installation:
    """`postgres` and `redis` are None where the settings name servers that somebody else runs."""

    settings: Settings
    keys: Keys
    postgres: Postgres | None
    redis: Redis | None

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes are started with; they read all else from the same environment as we did."""
        own = {
            "MILLRACE_DATA": str(self.settings.data),
            "MILLRACE_DATABASE_URL": self.postgres.url if self.postgres else self.settings.database_url,
            "MILLRACE_REDIS_URL": self.redis.url if self.redis else self.settings.redis_url,
            "MILLRACE_SECRET": self.keys.secret,
            "MILLRACE_ADMIN_TOKEN": self.keys.admin_token,
            "MILLRACE_ADMIN_PASSWORD": self.keys.admin_password,
        }
        if "allow_private_webhooks" not in self.settings.model_fields_set:
            # On one box the receiver that somebody tries first is on that box, too.
            own["MILLRACE_ALLOW_PRIVATE_WEBHOOKS"] = "true"
        return {**process_environment(), **own}


def installation(settings: Settings) -> Installation:
    """Of the data folder, which must be there. Raises `Refusal` where a server is to be embedded and missing."""
    settings = settings.model_copy(update={"data": settings.data.expanduser().resolve()})
    postgres = redis = None
    if not (settings.database_url and settings.redis_url):
        sockets = socket_folder(settings.data)
        postgres = None if settings.database_url else embedded_postgres(settings.data / "postgres", sockets)
        redis = None if settings.redis_url else embedded_redis(sockets)
    return Installation(settings, keys(settings), postgres, redis)
