"""People for tests of the pages: logins of accounts, and browsers that are logged in as they."""

from dataclasses import dataclass

from playwright.async_api import Page
from sqlalchemy import insert

from core.ids import new_id
from core.people import accounts, sessions
from core.people.passwords import hash_password
from core.resources import Resources
from core.settings import Settings
from core.tables import Login

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Person:
    account_id: str
    username: str
    login_id: str
    email: str
    password: str = PASSWORD


#: All have one password, and hashing it takes its time.
_hashes: list[str] = []


async def add_person(resources: Resources, username: str = "", *, is_admin: bool = False) -> Person:
    """An account of its own, and its login."""
    if not _hashes:
        _hashes.append(await hash_password(PASSWORD))
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, username or f"user-{new_id()}", "Some User", is_admin=is_admin)
        login_id, email = new_id(), f"{account.username}@example.com"
        row = {"id": login_id, "account_id": account.id, "email": email, "password_hash": _hashes[0]}
        await tx.execute(insert(Login).values(**row))
    return Person(account.id, account.username, login_id, email)


async def cookie_of(resources: Resources, person: Person) -> str:
    """A session as if they had logged in, without the time that takes."""
    async with resources.database.transaction() as tx:
        return await sessions.start(tx, person.login_id, "127.0.0.1", "Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0")


async def let_in(page: Page, served: Settings, resources: Resources, person: Person) -> None:
    """This browser is logged in as they."""
    secret = await cookie_of(resources, person)
    await page.context.add_cookies([{"name": "millrace-session", "value": secret, "url": served.url}])


async def log_in(page: Page, person: Person, password: str | None = None) -> None:
    """As a person does it, on the page for it, where they are."""
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password if password is None else password)
    await page.get_by_role("button", name="Log in").click()
