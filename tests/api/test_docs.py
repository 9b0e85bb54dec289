"""The page at /docs shows the document of this server, and needs nothing but this server."""

import re

import httpx

ADDRESS = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""")


async def test_the_page_loads_what_this_server_has_and_nothing_else(anonymous: httpx.AsyncClient) -> None:
    page = await anonymous.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    addresses = [address for address in ADDRESS.findall(page.text) if not address.startswith("data:")]
    assert len(addresses) >= 3
    for address in addresses:
        assert re.match("/[^/]", address), address
        answer = await anonymous.get(address)
        assert answer.status_code == 200, address
        if address.endswith((".js", ".css")):
            assert "immutable" in answer.headers["cache-control"]
        if "rapidoc" not in address and not address.endswith(".json"):
            assert "http" not in answer.text, address


async def test_a_browser_is_told_to_load_nothing_from_elsewhere(anonymous: httpx.AsyncClient) -> None:
    """Whatever the vendored script would like to: a font, say."""
    policy = (await anonymous.get("/docs")).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*", policy)


async def test_the_licence_of_the_vendored_script_lies_beside_it(anonymous: httpx.AsyncClient) -> None:
    script = re.search(r"/docs/\w+/rapidoc-[\d.]+", (await anonymous.get("/docs")).text)
    assert script
    answer = await anonymous.get(f"{script[0].rstrip('.')}.LICENSE.txt")
    assert "MIT License" in answer.text


async def test_what_the_page_does_not_have_is_not_found(anonymous: httpx.AsyncClient) -> None:
    for path in ("/docs/0/docs.js", "/docs/../main.py", "/docs/x/index.html"):
        assert (await anonymous.get(path)).status_code == 404
