"""Writes what a node sees of one Instance to its row. Knows nothing of containers."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core import boots, fleet
from core.database import Database
from core.lifecycle import InstanceStatus
from core.log import get_logger
from core.usage import instance_time
from core.usage.instance_time import Counters

log = get_logger()

#: After Postgres failed to answer, the next try.
_RETRY_SECONDS = 0.5


class ObservedState:
    """`times` is how long the Instance has been in each phase so far."""

    def __init__(self, database: Database, instance_id: str, times: Callable[[], Counters]) -> None:
        self._database = database
        self._id = instance_id
        self._times = times

    async def move(self, old: InstanceStatus, new: InstanceStatus, **values: Any) -> bool:
        """For as long as it takes Postgres to answer; with the last one, all its time."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    if new.is_terminal:
                        await instance_time.report(tx, {self._id: self._times()})
                    return await fleet.move_instance(tx, self._id, old, new, **values)
            except SQLAlchemyError as error:
                log.warning("instance state not written, will try again", instance=self._id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def note_logs(self, logs: str) -> None:
        """What its setup has printed so far. Not worth another try: more will follow."""
        try:
            async with self._database.transaction() as tx:
                await boots.note_logs(tx, self._id, logs)
        except SQLAlchemyError as error:
            log.warning("logs of a setup not written", instance=self._id, error=str(error))
