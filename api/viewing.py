"""An admin who looks at what is another Account's leaves a trace, by the hour: one for each request would be noise."""

from cachetools import TTLCache
from sqlalchemy import Row

from core.database import Database
from core.people import audit

_REMEMBER_SECONDS = 3600.0
_REMEMBERED = 10_000


class Views:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: TTLCache[tuple[str, str], bool] = TTLCache(_REMEMBERED, _REMEMBER_SECONDS)

    async def note(self, viewer_id: str, account: Row) -> None:
        key = (viewer_id, account.id)
        if viewer_id == account.id or key in self._noted:
            return
        async with self._database.transaction() as tx:
            await audit.record(tx, "account.view", f"account:{account.id}", account_id=account.id)
        self._noted[key] = True
