"""Sleeps without a word, then returns its input: until its end it has produced nothing, so that it may run again."""

import time

from cog import BasePredictor, Input

# A cancel is raised between two steps.
STEP_SECONDS = 0.05


class Predictor(BasePredictor):
    def predict(
        self,
        text: str = Input(default="", description="Comes back unchanged."),
        seconds: float = Input(default=1.0, ge=0, le=3600, description="How long to sleep."),
    ) -> str:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, STEP_SECONDS))
        return text
