"""The OpenAPI document at /v1/openapi.json, and the page at /docs that shows it. The page loads nothing from elsewhere.

Its files are under a name that follows from their content, so that a browser may keep them for ever.
"""

import asyncio
import hashlib
from functools import lru_cache
from pathlib import Path

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse

from api import openapi
from core.errors import NotFound
from core.settings import Settings

_FOLDER = Path(__file__).parent / "static" / "docs"
# RapiDoc writes style attributes. Scripts are those of the page alone, and they may talk to this server only.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
_ASSET_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
#: Tools in a browser read it from wherever they are.
_DOCUMENT_HEADERS = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}


def install(app: FastAPI, settings: Settings) -> None:
    """After the routes. The document is written when it is first asked for."""
    assets = {file.name: file for file in _FOLDER.iterdir()}
    digest = _digest(assets)
    html = assets.pop("index.html").read_text().replace("{assets}", f"/docs/{digest}")

    @lru_cache(maxsize=1)
    def rendered() -> bytes:
        return orjson.dumps(openapi.document(app, settings))

    async def document() -> Response:
        # The first time it takes half a second, in which streams and waiters are not to stand still.
        return Response(await asyncio.to_thread(rendered), headers=_DOCUMENT_HEADERS, media_type="application/json")

    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=_PAGE_HEADERS)

    async def asset(asked: str, name: str) -> FileResponse:
        if asked != digest or name not in assets:
            raise NotFound(f"There is nothing at /docs/{asked}/{name}.")
        return FileResponse(assets[name], headers=_ASSET_HEADERS)

    for path, endpoint in (("/v1/openapi.json", document), ("/docs", page), ("/docs/{asked}/{name}", asset)):
        app.add_api_route(path, endpoint, include_in_schema=False)


def _digest(assets: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name in sorted(assets):
        digest.update(assets[name].read_bytes())
    return digest.hexdigest()[:16]
