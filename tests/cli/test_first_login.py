"""The login that an installation begins with."""

import pytest

from cli.errors import Refusal
from cli.setup import seed_accounts
from core.people import accounts, logins
from core.resources import Resources

FIRST, OWN = "a first password", "a password of one's own"


def given(resources: Resources, password: str) -> Resources:
    settings = resources.settings.model_copy(update={"admin_password": password})
    return Resources(settings, resources.database, resources.redis, resources.files)


async def test_the_admin_logs_in_with_the_first_password_until_it_is_changed(
    resources: Resources, clean_database: None
) -> None:
    await seed_accounts(given(resources, FIRST))
    email = resources.settings.admin_email
    login = await logins.check(resources.database, email, FIRST)
    assert login is not None
    async with resources.database.transaction() as tx:
        assert (await accounts.get(tx, login.account_id)).is_admin
        await logins.change_password(tx, login.id, OWN)
    await seed_accounts(given(resources, FIRST))
    assert await logins.check(resources.database, email, FIRST) is None
    assert await logins.check(resources.database, email, OWN) is not None


async def test_without_a_password_nobody_is_let_in(resources: Resources, clean_database: None) -> None:
    await seed_accounts(resources)
    async with resources.database.autocommit() as tx:
        assert await logins.list_all(tx) == []


async def test_a_password_that_is_too_short_is_refused(resources: Resources, clean_database: None) -> None:
    with pytest.raises(Refusal, match=r"MILLRACE_ADMIN_PASSWORD\. A password has at least 10 characters\."):
        await seed_accounts(given(resources, "short"))
