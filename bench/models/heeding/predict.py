"""Stops within a millisecond of being told to, and says when; says when it began, too. By this machine's clock."""

import time

from cog import BasePredictor, Input

# A cancel is raised between two steps.
_STEP_SECONDS = 0.001


class Predictor(BasePredictor):
    def predict(self, seconds: float = Input(default=0.0, ge=0, le=600)) -> float:
        began = time.time()
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                time.sleep(_STEP_SECONDS)
        finally:
            print(f"stopped at {time.time():.6f}", flush=True)
        return began
