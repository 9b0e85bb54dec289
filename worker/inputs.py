"""Uploaded files as inputs: a URL of ours in an input is lent to the container as one that it can fetch.

`<public url>/v1/files/<id>` answers metadata, and only to its owner; the container has no credentials. So while the
prediction runs the node's own endpoint serves the bytes, under a token that nobody guesses.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from core import files
from core.errors import NotFound
from core.ids import new_secret
from core.resources import Resources

UrlOf = Callable[[str, str], str]
"""(token, file name) to the URL by which the container fetches it."""


@dataclass(frozen=True, slots=True)
class Lent:
    content_type: str
    size: int
    store_key: str


class InputFiles:
    """The files that this node's containers may fetch right now."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lent: dict[str, Lent] = {}

    async def lend(self, account_id: str, input: dict[str, Any], url_of: UrlOf) -> tuple[dict[str, Any], list[str]]:
        """The input with our own file URLs replaced, and the tokens to take back when the prediction has ended."""
        loan = _Loan(account_id, url_of)
        return {name: await self._replace(loan, value) for name, value in input.items()}, loan.tokens

    def take_back(self, tokens: list[str]) -> None:
        for token in tokens:
            self._lent.pop(token, None)

    def lent(self, tokens: list[str]) -> dict[str, dict[str, Any]]:
        """What these stand for, to be lent again by another process under the same tokens."""
        return {token: asdict(self._lent[token]) for token in tokens}

    def lend_again(self, lent: dict[str, dict[str, Any]]) -> list[str]:
        self._lent.update({token: Lent(**fields) for token, fields in lent.items()})
        return list(lent)

    async def open(self, token: str) -> tuple[str, int, AsyncIterator[bytes]] | None:
        """Content type, size and bytes of a lent file; None if it is not lent (any more)."""
        file = self._lent.get(token)
        if file is None:
            return None
        return file.content_type, file.size, await self._resources.files.stream(file.store_key)

    async def _replace(self, loan: "_Loan", value: Any) -> Any:
        if isinstance(value, list):
            return [await self._replace(loan, item) for item in value]
        file_id = files.own_upload(value) if isinstance(value, str) and value.startswith("http") else None
        if file_id is None:
            return value
        try:
            async with self._resources.database.autocommit() as tx:
                row = await files.get_upload(tx, loan.account_id, file_id)
        except NotFound:
            return value  # somebody else's server may have such paths too; if it is ours, the download says 404
        token = new_secret()
        self._lent[token] = Lent(row.content_type, row.size, row.store_key)
        loan.tokens.append(token)
        return loan.url_of(token, row.name)


@dataclass(slots=True)
class _Loan:
    account_id: str
    url_of: UrlOf
    tokens: list[str] = field(default_factory=list)
