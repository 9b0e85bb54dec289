"""Models, Versions and examples as they are shown. Reads what is shown with them, for a whole list at once."""

import mimetypes
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from api.state import State
from core import catalog, examples, files, wire
from core.clock import rfc3339

#: While a Version is being prepared nobody knows better; clients index these without looking.
_ANYTHING = {
    "openapi": "3.0.2",
    "info": {"title": "Cog", "version": "0.1.0"},
    "paths": {},
    "components": {"schemas": {"Input": {"title": "Input", "type": "object"}, "Output": {"title": "Output"}}},
}
#: What of a prediction is its owner's business only.
_PRIVATE = ("webhook", "webhook_events_filter", "deployment")


async def model(state: State, row: Row) -> dict[str, Any]:
    """One Model; the files of its example as predictions give them."""
    [(document, first)] = await _models(state, [row])
    return document | {"default_example": first and await example(state, first)}


async def models(state: State, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A list of Models; the files of their examples as URLs, since many of them would be too much."""
    return [
        document | {"default_example": first and _example(state, first, files.with_urls(state.settings, first.output))}
        for document, first in await _models(state, rows)
    ]


async def _models(state: State, rows: Sequence[Row]) -> list[tuple[dict[str, Any], Row | None]]:
    """Each with its default example."""
    ids = [row.latest_version_id for row in rows if row.latest_version_id]
    async with state.database.autocommit() as tx:
        latest = await catalog.versions_by_id(tx, ids) if ids else {}
        firsts = await examples.firsts(tx, [row.id for row in rows]) if rows else {}
        runs = await state.run_counts(tx, [f"{row.owner}/{row.name}" for row in rows])
    return [
        (
            _model(state, row, latest.get(row.latest_version_id), firsts.get(row.id), runs[f"{row.owner}/{row.name}"]),
            firsts.get(row.id),
        )
        for row in rows
    ]


def _model(state: State, row: Row, latest: Row | None, first: Row | None, runs: int) -> dict[str, Any]:
    return {
        "url": f"{state.settings.url}/{row.owner}/{row.name}",
        "owner": row.owner,
        "name": row.name,
        "description": row.description,
        "visibility": row.visibility,
        "github_url": row.github_url,
        "paper_url": row.paper_url,
        "license_url": row.license_url,
        "cover_image_url": row.cover_image_url
        or (first and _first_image(files.with_urls(state.settings, first.output))),
        "run_count": runs,
        "is_official": False,
        "created_at": rfc3339(row.created_at),
        "latest_version": latest and version(latest),
    }


def version(row: Row) -> dict[str, Any]:
    """`status` and `status_reason` are ours: whether it can run yet, and if not, why."""
    return {
        "id": row.id,
        "created_at": rfc3339(row.created_at),
        "cog_version": row.cog_version,
        "openapi_schema": row.openapi_schema or _ANYTHING,
        "status": row.status,
        "status_reason": row.status_reason,
    }


async def example(state: State, row: Row) -> dict[str, Any]:
    """A prediction as everybody may see it."""
    return _example(state, row, await state.shown(row.output))


def _example(state: State, row: Row, output: Any) -> dict[str, Any]:
    document = wire.prediction(state.settings, row, output)
    return {key: value for key, value in document.items() if key not in _PRIVATE}


def _first_image(output: Any) -> str | None:
    return next((url for url in _urls(output) if (mimetypes.guess_type(url)[0] or "").startswith("image/")), None)


def _urls(output: Any) -> Iterator[str]:
    if isinstance(output, str) and output.startswith(("https://", "http://")):
        yield output
    if isinstance(output, list | dict):
        for item in output.values() if isinstance(output, dict) else output:
            yield from _urls(item)
