"""What older containers post about a prediction, and the events hidden in it.

A post holds everything so far, may come late, twice or out of order, and may claim any id.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from worker.cog.health import Health
from worker.cog.leaving import Told
from worker.cog.outcome import DIED, LOST, STATUSES, OutputType, done, gone, model_metrics
from worker.events import Done, Event, Log, Metric, Output

# Dead, unreachable or idle for this long without posting a result, it will never post one.
LOST_SECONDS = 3.0


class Hook:
    """Where the posts about one prediction arrive. Only the latest is kept, and the first terminal one for good."""

    def __init__(self, prediction_id: str, url: str) -> None:
        self.prediction_id = prediction_id
        self.url = url
        self.latest: Mapping[str, Any] | None = None
        self.leaves = False
        self._terminal = False
        self._arrived = asyncio.Event()

    def leave(self) -> None:
        """Whoever waits for the next post is told that there will be none here."""
        self.leaves = True
        self._arrived.set()

    def put(self, body: Any) -> None:
        if self._terminal or not isinstance(body, Mapping) or body.get("id", self.prediction_id) != self.prediction_id:
            return
        self.latest = body
        self._terminal = body.get("status") in STATUSES
        self._arrived.set()

    async def next(self, seconds: float) -> Mapping[str, Any] | None:
        """The latest post, or None if none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return None
        self._arrived.clear()
        return None if self.leaves else self.latest


class HookInbox:
    """The open hooks of one container. Posts about anything else are dropped."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._open: dict[str, Hook] = {}

    @contextmanager
    def open(self, prediction_id: str) -> Iterator[Hook]:
        hook = self._open[prediction_id] = Hook(prediction_id, f"{self._url}/{prediction_id}")
        try:
            yield hook
        finally:
            if self._open.get(prediction_id) is hook:
                del self._open[prediction_id]

    def leave(self) -> None:
        for hook in self._open.values():
            hook.leave()

    def deliver(self, prediction_id: str, body: Any) -> None:
        if hook := self._open.get(prediction_id):
            hook.put(body)


class Progress:
    """What has been told so far about one prediction; `advance` tells the rest."""

    def __init__(self, output_type: OutputType, *, classic: bool, told: Told | None = None) -> None:
        self._type = output_type
        self._classic = classic
        self._logs = told.logs if told else 0
        self._outputs = told.outputs if told else 0
        self._metrics: dict[str, Any] = dict(told.metrics or {}) if told else {}

    def told(self, post: Mapping[str, Any] | None) -> Told:
        """For whoever goes on; `post` may be news to it."""
        return Told(post and dict(post), self._logs, self._outputs, self._metrics)

    def advance(self, body: Mapping[str, Any]) -> Iterator[Event]:
        """Events for what is new; a post that came late adds nothing."""
        logs, output = body.get("logs"), body.get("output")
        if isinstance(logs, str) and len(logs) > self._logs:
            yield Log(logs[self._logs :])
            self._logs = len(logs)
        if self._type.iterates and isinstance(output, list):
            yield from self._chunks(output)
        for name, value in model_metrics(body.get("metrics")).items():
            if self._metrics.get(name) != value:
                self._metrics[name] = value
                yield Metric(name, value)
        if body.get("status") in STATUSES:
            end = done(body, self._type, classic=self._classic)
            if end.output is not None and not (self._type.iterates and isinstance(end.output, list)):
                yield from self._chunks([end.output])
            yield end

    def _chunks(self, output: list[Any]) -> Iterator[Output]:
        for index in range(self._outputs, len(output)):
            yield Output(output[index], index)
        self._outputs = max(self._outputs, len(output))


class Silence:
    """Judges a container that posts nothing, so that a dead worker or a lost post hangs no prediction."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._since: float | None = None

    def judge(self, health: Health) -> Done | None:
        """The end, once the same bad news has lasted. With several slots, READY says nothing about one of them."""
        if health.recycle:
            end = Done("failed", error=DIED, container_lost=True)
        elif health.status == "unknown":
            end = gone(health.error)
        elif health.status == "ready" and self._slots == 1:
            end = Done("failed", error=LOST)
        else:
            self._since = None
            return None
        self._since = self._since or time.monotonic()
        return end if time.monotonic() - self._since >= LOST_SECONDS else None
