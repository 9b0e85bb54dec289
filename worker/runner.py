"""Drives one prediction through a ready container: T2, the event stream, T3.

The container is untrusted: of what it says only status, output, error, logs and metrics are copied, and seconds come
from this process's monotonic clock. Knows nothing of how the container was started, or of who waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import orjson
from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import predictions, streams, webhooks
from core.clock import monotonic
from core.errors import MillraceError, StaleWrite, TooLarge
from core.lifecycle import FailureCode, PredictionStatus, WebhookEvent
from core.log import get_logger
from core.money.pricing import MICROS_PER_SECOND, unit_lines
from core.predictions import Outcome
from core.resources import Resources
from core.schema import OutputKind
from worker.allowance import Allowance, price_of
from worker.cog import CogContainer, HandedOver, Kept, TurnCalledOff
from worker.events import Done, Event, Log, Metric, Output, Started
from worker.inputs import InputFiles, UrlOf
from worker.outputs import OutputFiles
from worker.progress import Progress
from worker.said import bounded, record, without_nul

log = get_logger()

#: Postgres may be restarting just as a prediction ends. Its result is kept and offered again, for as long as the node's
#: lease could still be ours; after that a rescue has ended it.
_SETTLE_PAUSE_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)
_SETTLE_FOR_SECONDS = 600.0

#: A cancel may come before the container knows the prediction.
_CANCEL_AGAIN_SECONDS = 0.05

_OUT_OF_MONEY = "Canceled: what the account may spend was used up (insufficient_funds). Add credit and run it again."

_MAX_OUTPUT_BYTES = 32 * 1024 * 1024
_MAX_ERROR_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a prediction runs: the Instance, its container, and what a runner may ask of it."""

    instance_id: str
    boot_id: str
    version: Row
    output_kind: OutputKind
    container: CogContainer
    inputs: InputFiles
    input_url: UrlOf
    outputs: OutputFiles
    kill: Callable[[str], Awaitable[None]]
    """Ends the container at once because this prediction, given by id, ignores its cancel."""


class Runner:
    """One prediction's run. `cancel` may be called at any moment, more than once.

    Once its container has been told to `leave`, a run that is between two events stands still for good: it is
    `left`, and what `kept` says lets another process go on.
    """

    def __init__(self, resources: Resources, seat: Seat, prediction_id: str) -> None:
        self._resources = resources
        self._seat = seat
        self.prediction_id = prediction_id
        self.row: Row | None = None
        self.was_taken = False
        """Whether the container began it; one that it never took may run elsewhere as if nothing had happened."""
        self.outcome: Outcome | None = None
        """Once it has ended in the container, until that is written."""
        self.left = asyncio.Event()
        self._call: Kept | None = None
        self._began: float | None = None
        self._micros: int | None = None
        self._lent: list[str] = []
        self._metrics: dict[str, Any] = {}
        self._stop_reason: FailureCode | str | None = None
        self._unkept: MillraceError | None = None
        """Why files that it made are lost; then it has made nothing."""
        self._stop_asked = 0.0
        self._stopping: asyncio.Task | None = None
        self._allowance: Allowance | None = None
        self._progress: Progress

    async def start(self) -> Row | None:
        """T2. None: it was canceled, is somebody else's, or this node's lease is no longer good."""
        async with self._resources.database.direct() as tx:
            self.row = await predictions.start(tx, self.prediction_id, self._seat.instance_id, self._seat.boot_id)
            if self.row is not None and webhooks.wants(self.row, WebhookEvent.START):
                tx.after_commit(webhooks.pass_on, self.row.id, WebhookEvent.START)
        if self.row is not None:
            self._progress = Progress(self._resources, self.row, self._seat.output_kind)
        elif self._stopping is not None:
            self._stopping.cancel()  # There is nothing to stop.
        return self.row

    async def drive(self) -> tuple[Outcome, bool]:
        """Runs it to its end in the container, once that has a slot for it. Returns how it ended, and whether the
        container is lost with it. Raises `TurnMissed`."""
        input = {} if self.has_begun else await self._prepare()
        try:
            async with self._seat.container.turn(self.prediction_id):
                done = await self._run(input)
        except TurnCalledOff:
            done = Done("canceled")
        except HandedOver as handed:
            await self._stand_still(handed.kept)
        finally:
            self._seat.inputs.take_back(self._lent)
            if self._stopping is not None:
                self._stopping.cancel()
            await self._progress.close()
        # First whoever has waited for the slot.
        await asyncio.sleep(0)
        self.outcome = await self._outcome(done)
        return self.outcome, done.container_lost

    async def _prepare(self) -> dict[str, Any]:
        """Returns the input as the container gets it."""
        if self.row.attempt > 1:
            await self._forget_earlier_attempt()
        input, self._lent = await self._seat.inputs.lend(self.row.account_id, self.row.input, self._seat.input_url)
        return input

    async def _run(self, input: dict[str, Any]) -> Done:
        self._began = monotonic() if self._began is None else self._began
        left = self._seconds_allowed() - (monotonic() - self._began)
        timer = asyncio.get_running_loop().call_later(max(left, 0.0), self._time_out)
        keeping = self._keep_allowance()
        try:
            return await self._listen(input)
        finally:
            self._micros = int((monotonic() - self._began) * MICROS_PER_SECOND)
            timer.cancel()
            if keeping is not None:
                keeping.cancel()

    # --- from one process to the next ---

    async def kept(self) -> dict[str, Any]:
        """All that `resume` needs; nothing more happens to it here."""
        kept: dict[str, Any] = {
            "attempt": self.row.attempt,
            "progress": await self._progress.suspend(),
            "stop": self._stop_reason and [str(self._stop_reason), self._stop_asked],
        }
        if self.outcome is not None:
            return {**kept, "outcome": asdict(self.outcome)}
        if self._call is None:
            # Nothing was sent: it begins anew.
            self._seat.inputs.take_back(self._lent)
            return kept
        return {
            **kept,
            "call": self._call.as_dict(),
            "began": self._began,
            "was_taken": self.was_taken,
            "metrics": self._metrics,
            "lent": self._seat.inputs.lent(self._lent),
        }

    @property
    def has_begun(self) -> bool:
        """Otherwise nothing of it was sent to the container."""
        return self._began is not None

    @property
    def is_at_work(self) -> bool:
        """It was given to the container, which has not answered for good yet."""
        return self._began is not None and self._micros is None

    @property
    def may_be_kept(self) -> bool:
        """Otherwise nobody knows how far it is, and the next program gives it up."""
        return self.left.is_set() or self.outcome is not None

    def resume(self, row: Row, kept: dict[str, Any]) -> bool:
        """Then `drive` goes on from there, or there is an `outcome` to settle. False: it is another attempt's."""
        if row.attempt != kept["attempt"]:
            return False
        self.row = row
        self._progress = Progress(self._resources, row, self._seat.output_kind)
        self._progress.resume(kept["progress"])
        if "outcome" in kept:
            fields = kept["outcome"]
            code = fields["failure_code"] and FailureCode(fields["failure_code"])
            self.outcome = Outcome(**{**fields, "status": PredictionStatus(fields["status"]), "failure_code": code})
            return True
        if "call" in kept:
            self._call = Kept.of(kept["call"])
            self._began, self.was_taken, self._metrics = kept["began"], kept["was_taken"], kept["metrics"]
            self._lent = self._seat.inputs.lend_again(kept["lent"])
        if kept["stop"]:
            reason, self._stop_asked = kept["stop"]
            self._stop_reason = FailureCode(reason) if reason in list(FailureCode) else reason
            self._stopping = asyncio.create_task(self._stop())
        return True

    def _keep_allowance(self) -> asyncio.Task | None:
        """Keeps money held for it, where its Account may not spend without limit."""
        if self.row.held_nanos is None:
            return None
        self._allowance = Allowance(self._resources.database, self.row, self._run_out_of_money)
        return asyncio.create_task(self._allowance.keep(self._began))

    def _run_out_of_money(self) -> None:
        log.info("no money left, canceling", prediction=self.prediction_id)
        self.cancel(FailureCode.INSUFFICIENT_FUNDS)

    async def _forget_earlier_attempt(self) -> None:
        try:
            await streams.reset(self._resources.redis, self.prediction_id)
        except (RedisError, OSError) as error:
            log.warning("stream not reset", prediction=self.prediction_id, error=str(error))

    async def settle(self, outcome: Outcome) -> None:
        """T3, offered until Postgres takes it, or says that it is no longer ours."""
        if self._allowance is not None:
            await self._allowance.cover(price_of(self.row, self._micros, outcome.units))
        deadline = monotonic() + _SETTLE_FOR_SECONDS
        pauses = iter(_SETTLE_PAUSE_SECONDS)
        pause = 0.0
        while True:
            try:
                async with self._resources.database.direct() as tx:
                    await predictions.finish(tx, self.row.id, self.row.attempt, outcome)
                await self._tell_rest()
                return
            except StaleWrite:
                log.warning("late result dropped", prediction=self.row.id, attempt=self.row.attempt)
                return
            except SQLAlchemyError as error:
                if monotonic() > deadline:
                    raise
                log.warning("result not settled, will try again", prediction=self.row.id, error=str(error))
            pause = next(pauses, pause)
            await asyncio.sleep(pause)

    async def _tell_rest(self) -> None:
        try:
            await self._progress.tell_rest()
        except (RedisError, OSError) as error:
            log.warning("passing webhooks lost", prediction=self.prediction_id, error=str(error))

    def cancel(self, reason: FailureCode | str = "canceled") -> None:
        """Asks the container to stop, and ends it if it has not within the grace."""
        if self._stop_reason is None:
            self._stop_reason, self._stop_asked = reason, monotonic()
            self._stopping = asyncio.create_task(self._stop())

    def _time_out(self) -> None:
        self.cancel(FailureCode.TIMEOUT)

    def _seconds_allowed(self) -> float:
        allowed = float(self._seat.version.timeout_seconds)
        if self.row.deadline_at is not None:
            allowed = min(allowed, (self.row.deadline_at - self.row.started_at).total_seconds())
        return max(allowed, 0.0)

    async def _stop(self) -> None:
        until = self._stop_asked + self._resources.settings.cancel_grace_seconds
        while monotonic() < until:
            if await self._seat.container.cancel(self.prediction_id):
                break
            await asyncio.sleep(_CANCEL_AGAIN_SECONDS)
        await asyncio.sleep(max(until - monotonic(), 0.0))
        log.warning("cancel ignored, ending the container", prediction=self.prediction_id)
        await self._seat.kill(self.prediction_id)

    async def _listen(self, input: dict[str, Any]) -> Done:
        try:
            async for event in self._seat.container.predict(self.prediction_id, input, self._call):
                if type(event) is Done:
                    return event
                await self._take_in(event)
        except HandedOver as handed:
            await self._stand_still(handed.kept)
        raise AssertionError("a container's events end with Done")

    async def _stand_still(self, call: Kept | None) -> NoReturn:
        """Whoever goes on is another process; here nothing of it may end."""
        self._call = call
        self.left.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("what stands still does not go on")

    async def _take_in(self, event: Event) -> None:
        match event:
            case Started():
                self.was_taken = True
            case Output(chunk=chunk):
                self._progress.add_chunk(without_nul(await self._as_references(chunk)))
            case Log(text=text):
                self._progress.add_log(without_nul(text))
            case Metric(name=name, value=value, mode=mode):
                record(self._metrics, name, value, mode)
        if self._progress.is_stale:
            self.cancel("stale")
        if self._unkept is not None:
            self.cancel("unkept")

    async def _as_references(self, output: Any) -> Any:
        holds_files = self._seat.output_kind.holds_files
        try:
            return await self._seat.outputs.translate(self.row.account_id, self.row.id, output, holds_files)
        except MillraceError as error:
            log.warning("files not kept", prediction=self.prediction_id, error=str(error))
            self._unkept = self._unkept or error
            return None

    async def _outcome(self, done: Done) -> Outcome:
        progress, micros, metrics = self._progress, self._micros, {**self._metrics, **done.metrics}
        output = await self._output(done, progress)
        status, error, code = self._verdict(done)
        if self._unkept is not None:
            output = None
        if len(orjson.dumps(output)) > _MAX_OUTPUT_BYTES:
            status, code, output = PredictionStatus.FAILED, FailureCode.MODEL, None
            error = f"The output is larger than {_MAX_OUTPUT_BYTES} bytes; return large results as files."
        await progress.tell_whole(output)
        # What we could not keep is not, nor what never had its turn.
        is_paid_for = code is not FailureCode.STORE and micros is not None
        return Outcome(
            status=status,
            output=output,
            error=error and without_nul(error)[:_MAX_ERROR_CHARACTERS],
            failure_code=code,
            logs=progress.logs,
            metrics={**bounded(metrics), "predict_time": (micros or 0) / MICROS_PER_SECOND},
            micros=micros if is_paid_for else None,
            units=self._units(status, metrics) if is_paid_for else None,
        )

    def _units(self, status: PredictionStatus, metrics: dict[str, Any]) -> list[dict[str, Any]] | None:
        """What it made, where that is what is paid for. A failed run has made nothing."""
        if self.row.unit_prices is None:
            return None
        return unit_lines(self.row.unit_prices, {} if status is PredictionStatus.FAILED else metrics)

    async def _output(self, done: Done, progress: Progress) -> Any:
        if done.status != "succeeded" and progress.output is not None:
            return progress.output
        if done.status == "succeeded" and progress.is_all_of(done.output):
            return progress.said
        return without_nul(await self._as_references(done.output))

    def _verdict(self, done: Done) -> tuple[PredictionStatus, str | None, FailureCode | None]:
        if self._unkept is not None:
            is_the_models = isinstance(self._unkept, TooLarge)
            return PredictionStatus.FAILED, str(self._unkept), FailureCode.MODEL if is_the_models else FailureCode.STORE
        if done.status == "succeeded":
            return PredictionStatus.SUCCEEDED, None, None
        if self._stop_reason is FailureCode.TIMEOUT and not self._is_past_deadline():
            seconds = self._seat.version.timeout_seconds
            return PredictionStatus.FAILED, f"Prediction timed out after {seconds} seconds.", FailureCode.TIMEOUT
        if self._stop_reason is FailureCode.INSUFFICIENT_FUNDS:
            return PredictionStatus.CANCELED, _OUT_OF_MONEY, FailureCode.INSUFFICIENT_FUNDS
        if self._stop_reason is not None or done.status == "canceled":
            return PredictionStatus.CANCELED, None, None
        error = done.error or "The model failed without saying why."
        return (
            PredictionStatus.FAILED,
            error,
            (FailureCode.CONTAINER_LOST if done.container_lost else FailureCode.MODEL),
        )

    def _is_past_deadline(self) -> bool:
        return self._seconds_allowed() < self._seat.version.timeout_seconds
