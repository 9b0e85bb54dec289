"""What the gateway makes of the URLs of Postgres and Redis; pure."""

import pytest

from api.gateway.upstreams import Upstream, postgres, redis


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        (
            "postgresql://me:pass%2Fword@db.example:6000/main",
            Upstream(host="db.example", port=6000, told={"user": "me", "password": "pass/word", "dbname": "main"}),
        ),
        (
            "postgresql://postgres@/millrace?host=/run/pg",
            Upstream(path="/run/pg/.s.PGSQL.5432", told={"user": "postgres", "dbname": "millrace"}),
        ),
        ("postgresql:///x?host=/a&port=99", Upstream(path="/a/.s.PGSQL.99", told={"dbname": "x"})),
    ],
)
def test_postgres_is_where_its_url_says(url: str, upstream: Upstream) -> None:
    assert postgres(url) == upstream


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("redis://redis:6379/0", Upstream(host="redis", port=6379)),
        ("redis://:se%40cret@h/2", Upstream(host="h", port=6379, told={"password": "se@cret", "db": 2})),
        ("unix:///run/redis.sock?db=1", Upstream(path="/run/redis.sock", told={"db": 1})),
    ],
)
def test_redis_is_where_its_url_says(url: str, upstream: Upstream) -> None:
    assert redis(url) == upstream


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_that_wants_tls_is_not_stood_before(mode: str) -> None:
    with pytest.raises(ValueError, match="which the gateway cannot pass on"):
        postgres(f"postgresql://h/db?sslmode={mode}")
    with pytest.raises(ValueError, match="which the gateway cannot pass on"):
        redis("rediss://h:6379/0")
