"""Uploaded files as inputs: a URL of ours in an input is lent to the container as one that it can fetch.

`<public url>/v1/files/<id>` answers metadata, and only to its owner; the container has no credentials. So while the
prediction runs the node's own endpoint serves the bytes, under a token that nobody guesses.
"""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row

from core import files
from core.errors import NotFound
from core.ids import new_secret
from core.resources import Resources


class InputFiles:
    """The files that this node's containers may fetch right now. `base_url` is the endpoint's, with its secret."""

    def __init__(self, resources: Resources, base_url: str) -> None:
        self._resources = resources
        self._base_url = base_url
        self._lent: dict[str, Row] = {}

    async def lend(self, account_id: str, input: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The input with our own file URLs replaced, and the tokens to take back when the prediction has ended."""
        tokens: list[str] = []
        return {name: await self._replace(account_id, value, tokens) for name, value in input.items()}, tokens

    def take_back(self, tokens: list[str]) -> None:
        for token in tokens:
            self._lent.pop(token, None)

    async def open(self, token: str) -> tuple[str, int, AsyncIterator[bytes]] | None:
        """Content type, size and bytes of a lent file; None if it is not lent (any more)."""
        row = self._lent.get(token)
        if row is None:
            return None
        return row.content_type, row.size, await self._resources.files.stream(row.store_key)

    async def _replace(self, account_id: str, value: Any, tokens: list[str]) -> Any:
        if isinstance(value, list):
            return [await self._replace(account_id, item, tokens) for item in value]
        file_id = files.own_upload(value) if isinstance(value, str) and value.startswith("http") else None
        if file_id is None:
            return value
        try:
            async with self._resources.database.autocommit() as tx:
                row = await files.get_upload(tx, account_id, file_id)
        except NotFound:
            return value  # somebody else's server may have such paths too; if it is ours, the download says 404
        token = new_secret()
        self._lent[token] = row
        tokens.append(token)
        return f"{self._base_url}/inputs/{token}/{quote(row.name)}"
