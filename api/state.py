"""What one api process keeps between requests: resources, who waits, and what is cheap to remember for a second.

A remembered token or Version is believed for a moment only, so a revoked one is refused almost at once everywhere.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from cachetools import LRUCache, TTLCache
from sqlalchemy import Row

from api.funds import Funds
from api.queueing import Queueing
from api.ratelimit import Limits
from api.viewing import Views
from api.waiting import Waiter
from core import catalog, deployments, files
from core.catalog import Runnable
from core.database import Transaction
from core.inputs import InputSchema
from core.payments.payments import PaymentProvider
from core.people import tokens
from core.resources import Resources

_REMEMBER_SECONDS = 2.0
_REMEMBERED = 10_000
_COMPILED_SCHEMAS = 1_000
#: Counting the runs of a popular Model reads a million records.
_RUN_COUNT_SECONDS = 30.0
#: A month of a busy installation is a look at some hundred thousand rows.
_SUMS_SECONDS, _REMEMBERED_SUMS = 10.0, 256


class State:
    def __init__(self, resources: Resources, payments: PaymentProvider | None = None) -> None:
        self.resources = resources
        self.settings = resources.settings
        self.database = resources.database
        self.payments = payments
        self.waiter = Waiter(resources.redis)
        self.queueing = Queueing(resources)
        self.funds = Funds(resources.database)
        self.limits = Limits(resources.settings, resources.redis)
        self.views = Views(resources.database)
        self._accounts: TTLCache[str, Row] = TTLCache(_REMEMBERED, _REMEMBER_SECONDS)
        self._runnables: TTLCache[tuple[str, ...], Runnable] = TTLCache(_REMEMBERED, _REMEMBER_SECONDS)
        self._run_counts: TTLCache[str, int] = TTLCache(_REMEMBERED, _RUN_COUNT_SECONDS)
        #: What all Accounts together come to: the pages of admins ask for the same again and again.
        self.sums: TTLCache[tuple[Any, ...], Any] = TTLCache(_REMEMBERED_SUMS, _SUMS_SECONDS)
        self._schemas: LRUCache[str, InputSchema] = LRUCache(_COMPILED_SCHEMAS)

    async def account_of(self, token: str) -> Row | None:
        account = self._accounts.get(token)
        if account is None:
            async with self.database.autocommit() as tx:
                account = await tokens.caller(tx, token)
                if account is not None and account.untouched:
                    await tokens.touch(tx, account.token_id)
            if account is not None:
                self._accounts[token] = account
        return account

    def forget(self, account_id: str) -> None:
        """Its next request, with whichever token, reads tokens and account again. To be called after the commit."""
        # Time stands still meanwhile, so that none expires between being listed and being looked at.
        with self._accounts.timer:
            for token in [token for token, account in self._accounts.items() if account.id == account_id]:
                del self._accounts[token]

    async def resolve(self, account_id: str, reference: str) -> Runnable:
        """The Version a reference names. Raises `InvalidVersion`."""
        return await self._runnable(catalog.resolve, account_id, reference)

    async def resolve_deployment(self, account_id: str, owner: str, name: str) -> Runnable:
        """What a Deployment runs now. Raises `NotFound`, `Conflict` or `InvalidVersion`."""
        return await self._runnable(deployments.resolve, account_id, owner, name)

    async def _runnable(self, find: Callable[..., Awaitable[Runnable]], *names: str) -> Runnable:
        runnable = self._runnables.get(names)
        if runnable is None:
            async with self.database.autocommit() as tx:
                runnable = self._runnables[names] = await find(tx, *names)
        return runnable

    def forget_runnables(self) -> None:
        """What references stand for is read again, here at once. To be called after the commit that changed it."""
        self._runnables.clear()

    async def run_counts(self, tx: Transaction, models: list[str]) -> dict[str, int]:
        """How often each of these Models (`owner/name`) has run, as of the last half minute."""
        counts = {model: self._run_counts.get(model) for model in models}
        if unknown := [model for model, count in counts.items() if count is None]:
            counted = await catalog.run_counts(tx, unknown)
            fresh = {model: counted.get(model, 0) for model in unknown}
            self._run_counts.update(fresh)
            counts |= fresh
        return counts

    def schema_of(self, runnable: Runnable) -> InputSchema:
        if runnable.openapi_schema is None:
            return InputSchema(None)
        schema = self._schemas.get(runnable.version_id)
        if schema is None:
            schema = self._schemas[runnable.version_id] = InputSchema(runnable.openapi_schema)
        return schema

    async def shown(self, output: Any) -> Any:
        """An output with its files as this server gives them: URLs, or data URIs where clients need those."""
        if not (self.settings.inlines_files and files.references(output)):
            return files.with_urls(self.settings, output)
        async with self.database.direct() as tx:
            return await files.with_data(self.resources.files, tx, self.settings, output)
