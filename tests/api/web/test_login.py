"""Logging in and out, and what ends a session."""

import re

import httpx
import pytest
from fastapi import Response
from sqlalchemy import select, update

from api.web.cookies import Cookies
from api.web.routes.home import HOME
from api.web.throttle import TRIES_PER_ADDRESS, TRIES_PER_EMAIL, count_try
from core.database import seconds_from_now
from core.errors import TooManyRequests
from core.ids import new_id
from core.people import logins, sessions
from core.redis import open_redis
from core.resources import Resources
from core.settings import Settings
from core.tables import AuditEvent, Session
from tests.api.web.people import PASSWORD, Person, cookie_of

SETTINGS, WRONG = "/account/settings", "The email or the password is wrong."


async def log_in(visitor: httpx.AsyncClient, email: str, password: str = PASSWORD, cookie: str = "") -> httpx.Response:
    headers = {"Cookie": f"millrace-session={cookie}"} if cookie else {}
    return await visitor.post("/login", data={"email": email, "password": password}, headers=headers)


async def is_open(resources: Resources, secret: str) -> bool:
    async with resources.database.autocommit() as tx:
        return await sessions.find(tx, secret) is not None


def secret_of(visitor: httpx.AsyncClient) -> str:
    return visitor.cookies["millrace-session"]


async def is_logged_in(client: httpx.AsyncClient) -> bool:
    return (await client.get(SETTINGS)).status_code == 200


async def csrf_of(client: httpx.AsyncClient) -> str:
    return re.search(r'name="csrf" value="(\w+)"', (await client.get(SETTINGS)).text)[1]


@pytest.fixture(autouse=True)
async def own_window(resources: Resources) -> None:
    """All tests come from one address."""
    async for key in resources.redis.scan_iter("tries:*"):
        await resources.redis.delete(key)


async def test_the_right_password_opens_a_session_that_scripts_cannot_read(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    answer = await log_in(visitor, f" {person.email.upper()} ")
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert re.search(r"HttpOnly; Max-Age=1209600; Path=/; SameSite=lax$", cookie), cookie
    assert len(secret_of(visitor)) >= 43
    assert await is_logged_in(visitor)
    async with resources.database.autocommit() as tx:
        kept = await tx.one(select(Session).where(Session.login_id == person.login_id))
    assert kept.id == sessions.session_id(secret_of(visitor))
    assert secret_of(visitor) not in str(kept)


async def test_what_is_wrong_is_not_told_apart(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    answers = [
        await log_in(visitor, person.email, "wrong password"),
        await log_in(visitor, "nobody@example.com"),
        await log_in(visitor, "", ""),
    ]
    assert {answer.status_code for answer in answers} == {422}
    assert all(WRONG in answer.text and "set-cookie" not in answer.headers for answer in answers)


async def test_an_old_cookie_is_not_what_one_is_logged_in_by(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    """Whoever plants a cookie in another's browser has nothing of it once they log in."""
    planted = await cookie_of(resources, person)
    answer = await log_in(visitor, person.email, cookie=planted)
    fresh = re.match(r"millrace-session=([\w-]+)", answer.headers["set-cookie"])[1]
    assert fresh != planted
    assert [await is_open(resources, each) for each in (fresh, planted)] == [True, False]


async def test_logging_out_ends_the_session_and_not_only_its_cookie(
    member: httpx.AsyncClient, resources: Resources
) -> None:
    secret = secret_of(member)
    answer = await member.post("/logout", data={"csrf": await csrf_of(member)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert any(re.match('millrace-session="";.*Max-Age=0', each) for each in answer.headers.get_list("set-cookie"))
    assert not await is_open(resources, secret)


async def test_who_comes_back_within_two_weeks_stays_logged_in(
    member: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    assert "set-cookie" not in (await member.get(SETTINGS)).headers
    soon = seconds_from_now(60)
    async with resources.database.transaction() as tx:
        await tx.execute(update(Session).where(Session.login_id == person.login_id).values(expires_at=soon))
    answer = await member.get(SETTINGS)
    assert "Max-Age=1209600" in answer.headers["set-cookie"]
    assert "set-cookie" not in (await member.get(SETTINGS)).headers


@pytest.mark.parametrize(
    ("next", "location"),
    [
        ("/account/settings?a=1", "/account/settings?a=1"),
        ("//evil.example", HOME),
        ("/\\evil.example", HOME),
        ("https://evil.example/", HOME),
        ("javascript:alert(1)", HOME),
        ("/a\r\nSet-Cookie: a=b", HOME),
        ("/\t/evil.example", HOME),
        ("/login", HOME),
        ("", HOME),
    ],
)
async def test_one_is_sent_on_to_pages_of_this_server_only(member: httpx.AsyncClient, next: str, location: str) -> None:
    assert (await member.get("/login", params={"next": next})).headers["location"] == location


# --- how often ---


async def test_who_guesses_is_slowed_down_even_with_the_right_password(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    for _ in range(TRIES_PER_EMAIL):
        await count_try(resources.redis, person.email.upper(), "192.0.2.1")
    refused = await log_in(visitor, person.email)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 900
    assert re.search(r"Too many tries\. Wait 1\d minutes", refused.text)
    assert "set-cookie" not in refused.headers


async def test_getting_in_makes_up_for_mistakes(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    for _ in range(TRIES_PER_EMAIL - 1):
        await count_try(resources.redis, person.email, "192.0.2.1")
    assert (await log_in(visitor, person.email)).status_code == 303
    assert (await log_in(visitor, person.email, "wrong")).status_code == 422


async def test_who_tries_many_emails_is_slowed_down_by_address(resources: Resources) -> None:
    address = f"192.0.2.{new_id()}"
    for number in range(TRIES_PER_ADDRESS):
        await count_try(resources.redis, f"{number}@example.com", address)
    with pytest.raises(TooManyRequests):
        await count_try(resources.redis, "another@example.com", address)
    await count_try(resources.redis, "another@example.com", "192.0.2.2")


async def test_without_redis_people_still_get_in(settings: Settings) -> None:
    redis = open_redis(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    try:
        await count_try(redis, "a@example.com", "192.0.2.3")
    finally:
        await redis.aclose(close_connection_pool=True)


# --- one's own settings ---


async def test_a_new_password_ends_every_other_session(
    member: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    other, new = await cookie_of(resources, person), "a new and longer password"
    fields = {"csrf": await csrf_of(member), "current": PASSWORD, "new": new}
    answer = await member.post(f"{SETTINGS}/password", data=fields)
    assert answer.status_code == 303
    assert not await is_open(resources, other)
    assert "Your password is changed." in (await member.get(SETTINGS)).text
    assert "Your password is changed." not in (await member.get(SETTINGS)).text
    assert await logins.check(resources.database, person.email, new) is not None


@pytest.mark.parametrize(
    ("current", "new", "sentence"),
    [
        ("wrong password", "a new and longer password", "This is not your present password."),
        (PASSWORD, "short", "A password has at least 10 characters."),
        (PASSWORD, "x" * 1001, "A password has at most 1000 characters."),
        ("", "", "A password has at least 10 characters."),
    ],
)
async def test_a_password_that_cannot_be_is_refused_beside_its_field(
    member: httpx.AsyncClient, current: str, new: str, sentence: str
) -> None:
    fields = {"csrf": await csrf_of(member), "current": current, "new": new}
    refused = await member.post(f"{SETTINGS}/password", data=fields)
    assert refused.status_code == 422
    assert re.search(rf'aria-invalid="true".*\n.*class="error">{sentence}', refused.text)
    assert await is_logged_in(member)


# --- on record ---


async def test_what_people_do_is_on_record_and_no_password_is(
    visitor: httpx.AsyncClient, resources: Resources, person: Person
) -> None:
    await log_in(visitor, person.email, "a wrong password")
    await log_in(visitor, person.email)
    await visitor.post("/logout", data={"csrf": await csrf_of(visitor)})
    async with resources.database.autocommit() as tx:
        events = await tx.all(select(AuditEvent).where(AuditEvent.target == person.email).order_by(AuditEvent.number))
    assert [event.action for event in events] == ["login.fail", "session.start", "session.end"]
    assert [event.address for event in events] == ["127.0.0.1"] * 3
    assert events[-1].actor == f"{person.username} ({person.email})"
    assert not [event for event in events if "password" in str(event)]


# --- cookies ---


def test_by_https_cookies_are_for_https_and_this_host_alone(settings: Settings) -> None:
    secure = Cookies(settings.model_copy(update={"public_url": "https://models.example"}))
    response = Response()
    secure.set(response, "session", "x", 60)
    assert response.headers["set-cookie"] == (
        "__Host-millrace-session=x; HttpOnly; Max-Age=60; Path=/; SameSite=lax; Secure"
    )
