"""Whose turn it is in a container that takes so many predictions at once. The others wait, in the order in which they
came, until one is over. Knows nothing of what they are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class TurnMissed(Exception):
    """It did not come in so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no turn in {seconds:g} s")
        self.seconds = seconds


class TurnCalledOff(Exception):
    """It was not wanted any more."""


class Turns:
    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def turn(self, id: str, seconds: float, meanwhile: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Waits for it at most so long, and does something meanwhile. Raises `TurnMissed`, or what `end` was given."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(id, seconds, meanwhile)
        try:
            yield
        finally:
            self._pass_on()

    def call_off(self, id: str) -> bool:
        """False: it does not wait."""
        return id in self._waiting and self._end(self._waiting[id], TurnCalledOff())

    def end(self, reason: Callable[[], Exception]) -> None:
        """Nobody waits any longer."""
        for turn in self._waiting.values():
            self._end(turn, reason())

    async def _wait(self, id: str, seconds: float, meanwhile: Callable[[], Awaitable[None]]) -> None:
        turn = self._waiting[id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await meanwhile()
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It came, and nobody takes it.
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise TurnMissed(seconds) from None
            raise
        finally:
            del self._waiting[id]

    def _pass_on(self) -> None:
        for turn in self._waiting.values():
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    @staticmethod
    def _end(turn: asyncio.Future[None], reason: Exception) -> bool:
        if turn.done():
            return False
        turn.set_exception(reason)
        return True
