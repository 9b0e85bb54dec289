"""Who gets to see a page, and that nothing is done for a form that no page of ours has sent."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.main import create_app
from api.web.access import Audience, audience_of
from api.web.gate import PageRoute
from core.resources import Resources
from core.settings import Settings
from tests.api.web.conftest import visitor_of
from tests.api.web.people import Person, cookie_of

SETTINGS, EVERYWHERE = "/account/settings", "/account/settings/sessions/end"
OPEN_TO_ANYONE = {"/", "/login"}


@pytest.fixture
async def administrator(pages: Settings, resources: Resources, admin: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor_of(pages, await cookie_of(resources, admin)) as administrator:
        yield administrator


async def csrf_of(client: httpx.AsyncClient) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', (await client.get(SETTINGS)).text)
    assert found
    return found[1]


async def is_logged_in(client: httpx.AsyncClient) -> bool:
    return (await client.get(SETTINGS)).status_code == 200


def test_every_page_says_who_may_open_it(settings: Settings) -> None:
    routes = iter_route_contexts(create_app(settings).routes)
    pages = {route.path_format: route for route in routes if isinstance(route.original_route, PageRoute)}
    assert pages.keys() >= {"/", "/login", "/logout", SETTINGS}
    audiences = {path: audience_of(route.endpoint) for path, route in pages.items()}
    assert {path for path, audience in audiences.items() if audience is Audience.ANYONE} == OPEN_TO_ANYONE
    assert all(path.startswith("/admin/") for path, audience in audiences.items() if audience is Audience.ADMINS)
    assert not [path for path in pages if path.startswith("/v1")]


async def test_nothing_under_admin_is_there_for_others(settings: Settings, member: httpx.AsyncClient) -> None:
    paths = {route.path_format for route in iter_route_contexts(create_app(settings).routes)}
    hidden = [re.sub(r"\{\w+\}", "x", path) for path in paths if path.startswith("/admin/")]
    assert len(hidden) > 20
    for path in hidden:
        for method in ("GET", "POST"):
            assert (await member.request(method, path)).status_code in (404, 405), path


async def test_who_is_not_logged_in_is_sent_to_log_in_and_back(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get(f"{SETTINGS}?a=1&b=2")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/login?next=%2Faccount%2Fsettings%3Fa%3D1%26b%3D2",
    )


async def test_a_part_of_a_page_is_not_replaced_by_the_page_for_logging_in(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get(SETTINGS, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


@pytest.mark.parametrize("secret", ["", "nonsense", "x" * 5000])
async def test_a_cookie_that_is_no_session_lets_nobody_in(pages: Settings, secret: str) -> None:
    async with visitor_of(pages, secret) as visitor:
        assert (await visitor.get(SETTINGS)).status_code == 303


async def test_a_page_for_admins_is_not_there_for_others(
    member: httpx.AsyncClient, administrator: httpx.AsyncClient
) -> None:
    hidden = await member.get("/gallery")
    assert hidden.status_code == 404
    assert "There is nothing at /gallery." in hidden.text
    assert (await administrator.get("/gallery")).status_code == 200


async def test_the_start_leads_to_ones_own_pages(visitor: httpx.AsyncClient, member: httpx.AsyncClient) -> None:
    assert (await visitor.get("/")).headers["location"] == "/login"
    assert (await member.get("/")).headers["location"].startswith("/account/")


async def test_for_a_program_there_is_nothing_at_the_start(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


# --- forms ---


async def test_a_form_without_the_token_of_its_session_does_nothing(member: httpx.AsyncClient) -> None:
    for fields in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ä"}):
        refused = await member.post(EVERYWHERE, data=fields)
        assert refused.status_code == 403
        assert "reload the page" in refused.text
    assert await is_logged_in(member)


async def test_the_token_of_another_session_is_none(
    member: httpx.AsyncClient, administrator: httpx.AsyncClient
) -> None:
    refused = await member.post(EVERYWHERE, data={"csrf": await csrf_of(administrator)})
    assert refused.status_code == 403
    assert await is_logged_in(member)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_from_another_site_does_nothing(member: httpx.AsyncClient, headers: dict[str, str]) -> None:
    refused = await member.post(EVERYWHERE, data={"csrf": await csrf_of(member)}, headers=headers)
    assert refused.status_code == 403
    assert "another site" in refused.text
    assert await is_logged_in(member)


async def test_a_form_of_ours_is_taken(member: httpx.AsyncClient) -> None:
    done = await member.post(EVERYWHERE, data={"csrf": await csrf_of(member)})
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    assert not await is_logged_in(member)


async def test_nobody_is_logged_in_from_another_site(visitor: httpx.AsyncClient, person: Person) -> None:
    """Else somebody could be made to work in an account that another one watches."""
    fields = {"email": person.email, "password": person.password}
    refused = await visitor.post("/login", data=fields, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


# --- errors ---


async def test_people_are_told_in_pages_and_programs_in_json(visitor: httpx.AsyncClient) -> None:
    page = await visitor.get("/nothing")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at /nothing." in page.text
    for path, accept in (("/nothing", "application/json"), ("/v1/nothing", "text/html"), ("/v1/models", "text/html")):
        answer = await visitor.get(path, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/problem+json", path


async def test_what_a_page_was_asked_is_shown_and_never_run(visitor: httpx.AsyncClient) -> None:
    page = await visitor.get("/<script>alert(1)</script>")
    assert "&lt;script&gt;" in page.text
    assert "<script>alert" not in page.text


async def test_a_page_that_breaks_says_so_without_its_reasons(member: httpx.AsyncClient) -> None:
    broken = await member.get("/gallery/broken")
    assert (broken.status_code, broken.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "on purpose" not in broken.text


async def test_a_method_that_a_page_does_not_take_is_named(member: httpx.AsyncClient) -> None:
    refused = await member.delete(SETTINGS)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


# --- headers ---


async def test_every_page_forbids_what_is_not_ours(visitor: httpx.AsyncClient, member: httpx.AsyncClient) -> None:
    for page in (await visitor.get("/login"), await visitor.get("/nothing"), await member.get(SETTINGS)):
        policy = dict(rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "font-src": "'self'",
            "connect-src": "'self'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|<script(?! defer src)| style=| on\w+=", page.text)


async def test_files_may_be_kept_for_ever_under_a_name_that_follows_from_them(visitor: httpx.AsyncClient) -> None:
    paths = re.findall(r'(?:href|src)="(/static/[^"]+)"', (await visitor.get("/login")).text)
    assert {path.rsplit("/", 1)[1] for path in paths} == {
        "htmx-2.0.11.min.js",
        "millrace.css",
        "millrace.js",
        "millrace.svg",
    }
    for path in paths:
        assert "immutable" in (await visitor.get(path)).headers["cache-control"]
    for path in ("/static/0/millrace.css", paths[0] + "x", "/static/../pages.py"):
        assert (await visitor.get(path)).status_code == 404
