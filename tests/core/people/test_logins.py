"""Logins and sessions: whom they let in, and for how long."""

import pytest
from sqlalchemy import Row, func, select, update

from core.database import seconds_from_now
from core.errors import Conflict, Invalid
from core.ids import new_id
from core.people import accounts, logins, sessions
from core.resources import Resources
from core.tables import Account, Login, Session

PASSWORD = "correct horse battery"
DAY = 24 * 3600


@pytest.fixture
async def login(resources: Resources) -> Row:
    name = f"user-{new_id()}"
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, name, name)
        return await logins.create(tx, account.id, f"{name}@example.com", PASSWORD)


async def start(resources: Resources, login: Row) -> str:
    async with resources.database.transaction() as tx:
        return await sessions.start(tx, login.id, "127.0.0.1", "a browser")


async def find(resources: Resources, secret: str) -> Row | None:
    async with resources.database.autocommit() as tx:
        return await sessions.find(tx, secret)


async def age(resources: Resources, secret: str, seconds: float) -> None:
    """As if it had been used so long ago for the last time."""
    left = seconds_from_now(sessions.LIFETIME_SECONDS - seconds)
    async with resources.database.transaction() as tx:
        await tx.execute(update(Session).where(Session.id == sessions.session_id(secret)).values(expires_at=left))


async def test_only_a_slow_hash_of_a_password_is_kept(resources: Resources, login: Row) -> None:
    async with resources.database.autocommit() as tx:
        kept = await tx.scalar(select(Login.password_hash).where(Login.id == login.id))
    assert kept.startswith("$argon2id$")
    assert not hasattr(login, "password_hash")


async def test_one_email_is_one_login_however_it_is_written(resources: Resources, login: Row) -> None:
    with pytest.raises(Conflict, match=login.email):
        async with resources.database.transaction() as tx:
            await logins.create(tx, login.account_id, f" {login.email.upper()} ", PASSWORD)


@pytest.mark.parametrize("email", ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b@c", "x" * 65 + "@b.c"])
async def test_what_is_no_email_is_refused(resources: Resources, login: Row, email: str) -> None:
    with pytest.raises(Invalid, match=r"looks like ada@example\.com"):
        async with resources.database.transaction() as tx:
            await logins.create(tx, login.account_id, email, PASSWORD)


async def test_a_disabled_login_lets_nobody_in_and_ends_its_sessions(resources: Resources, login: Row) -> None:
    secret = await start(resources, login)
    async with resources.database.transaction() as tx:
        await logins.disable(tx, login.id)
    assert await logins.check(resources.database, login.email, PASSWORD) is None
    assert await find(resources, secret) is None


async def test_nobody_is_let_in_to_a_deleted_account(resources: Resources, login: Row) -> None:
    secret = await start(resources, login)
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == login.account_id).values(deleted_at=func.now()))
    assert await logins.check(resources.database, login.email, PASSWORD) is None
    assert await find(resources, secret) is None


async def test_a_session_lasts_two_weeks_from_its_last_use(resources: Resources, login: Row) -> None:
    secret = await start(resources, login)
    assert not (await find(resources, secret)).is_stale
    await age(resources, secret, 13 * DAY)
    found = await find(resources, secret)
    assert found.is_stale
    async with resources.database.transaction() as tx:
        await sessions.prolong(tx, found.session_id)
    assert not (await find(resources, secret)).is_stale
    await age(resources, secret, 14 * DAY)
    assert await find(resources, secret) is None


async def test_sessions_that_have_ended_by_themselves_are_removed_by_the_next(resources: Resources, login: Row) -> None:
    await age(resources, await start(resources, login), 15 * DAY)
    await start(resources, login)
    async with resources.database.autocommit() as tx:
        assert await tx.scalar(select(func.count()).select_from(Session).where(Session.login_id == login.id)) == 1
