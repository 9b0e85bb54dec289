"""Follows the models that come along until all are ready, and says what becomes of each."""

import asyncio
import json
import sys
from collections.abc import Callable

from cli.errors import Refusal
from cli.installation import Installation
from cli.model_folders import FIRST_MODEL
from cli.programs import ProgramFailed, run


class ModelWatch:
    """The database is read by a process of its own, which spares `up` a second of imports at every start."""

    def __init__(self, installation: Installation, tell: Callable[[str], None]) -> None:
        self._installation = installation
        self._tell = tell
        self._statuses: dict[str, str] = {}
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def follow(self) -> bool:
        """Whether all became ready."""
        try:
            await run((sys.executable, "-m", "cli.readiness"), self._installation.environment, self._line)
        except ProgramFailed as error:
            self._fail(f"It is not known whether {FIRST_MODEL} is ready: {error}")
            return False
        return all(status == "ready" for status in self._statuses.values())

    async def first_ready(self) -> None:
        """Raises `Refusal` where it cannot be made ready."""
        await asyncio.shield(self._first)

    def _line(self, line: str) -> None:
        change = json.loads(line)
        model, status = change["model"], change["status"]
        was_waited_for = self._statuses.get(model) == "preparing"
        self._statuses[model] = status
        if status == "failed":
            sentence = f"{model} could not be prepared: {change['reason']}"
            if model == FIRST_MODEL:
                self._fail(sentence)
            else:
                self._tell(sentence)
        elif status == "ready" and model == FIRST_MODEL and not self._first.done():
            self._first.set_result(None)
        elif status == "ready" and was_waited_for:
            self._tell(f"{model} is ready.")

    def _fail(self, sentence: str) -> None:
        if self._first.done():
            self._tell(sentence)
        else:
            self._first.set_exception(Refusal(sentence))
