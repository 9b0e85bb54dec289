"""The OpenAPI document at /v1/openapi.json, and the page at /docs that shows it. Nothing is loaded from elsewhere."""

from functools import lru_cache

import orjson
from fastapi import FastAPI, Response

from api import openapi
from core.settings import Settings


def install(app: FastAPI, settings: Settings) -> None:
    """After the routes. Both are made when they are first asked for."""

    @lru_cache(maxsize=1)
    def rendered() -> bytes:
        return orjson.dumps(openapi.document(app, settings))

    async def document() -> Response:
        return Response(rendered(), headers={"Access-Control-Allow-Origin": "*"}, media_type="application/json")

    app.add_api_route("/v1/openapi.json", document, include_in_schema=False)
