"""Stands in for a device that is at work while the processor is not: it sleeps, and answers as `busy` does."""

import time

from cog import BaseModel, BasePredictor, Input


class Output(BaseModel):
    began: float
    """By CLOCK_MONOTONIC of this machine."""
    ended: float
    busy_seconds: float


class Predictor(BasePredictor):
    def predict(self, milliseconds: int = Input(default=50, ge=1, le=60_000)) -> Output:
        began = time.monotonic()
        time.sleep(milliseconds / 1000)
        ended = time.monotonic()
        return Output(began=began, ended=ended, busy_seconds=ended - began)
