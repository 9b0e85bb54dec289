"""Search over everything that can be found by words: Models, collections, pages of this server."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from api import showing
from api.access import Bucket, anyone
from api.dependencies import StateDep, Visitor
from api.gate import Route
from api.responses import Json
from api.schemas.search import SearchResponse
from core import search
from core.errors import BadRequest

router = APIRouter(tags=["search"], route_class=Route)

_MOST_COLLECTIONS = 20

#: (name, path, words it is found by beside its name's)
_PAGES = (
    ("API reference", "/docs", "http rest documentation docs operations endpoints openapi"),
    ("OpenAPI document", "/v1/openapi.json", "api schema specification json reference"),
)

#: Required, but a request without it is answered as the original does: 400, not 422.
_QUERY = {
    "parameters": [
        {
            "name": "query",
            "in": "query",
            "required": True,
            "description": "What to look for.",
            "schema": {"type": "string", "minLength": 1},
            "example": "super resolution",
        }
    ]
}


@router.get("/search", operation_id="search", response_model=SearchResponse, openapi_extra=_QUERY)
@anyone
async def find(
    state: StateDep,
    request: Request,
    visitor: Visitor,
    query: Annotated[str | None, Query(include_in_schema=False)] = None,
    limit: Annotated[int, Query(ge=1, le=50, description="How many Models at most.")] = 20,
) -> Json:
    """Search Models, collections and pages. Without a token: what is public."""
    wanted = search.Query.of(query or "")
    if wanted is None:
        raise BadRequest('Query parameter "query" is required')
    account_id = visitor and visitor.id
    await state.limits.take(account_id or f"address {request.client and request.client.host}", Bucket.CALLS)
    async with state.database.autocommit() as tx:
        rows = await search.models(tx, account_id, wanted, limit)
        collections = await search.collections(tx, account_id, wanted, _MOST_COLLECTIONS)
    return Json(
        {
            "query": query,
            "models": [
                {"model": model, "metadata": _metadata(model["description"], row.score)}
                for row, model in zip(rows, await showing.models(state, rows), strict=True)
            ],
            "collections": [
                {"name": row.name, "slug": row.slug, "description": row.description, "models": row.models}
                for row in collections
            ],
            "pages": [{"name": name, "href": href} for name, href, words in _PAGES if _fits(wanted, name, words)],
        }
    )


def _metadata(description: str | None, score: float) -> dict[str, object]:
    return {"generated_description": description or "", "tags": [], "score": score}


def _fits(wanted: search.Query, name: str, words: str) -> bool:
    known = f"{name} {words}".lower().split()
    return bool(wanted.words) and all(any(one.startswith(word) for one in known) for word in wanted.words)
