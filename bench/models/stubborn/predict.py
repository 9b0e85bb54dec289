"""Ignores a cancel: sleeps in one long call, which nothing can be raised into."""

import time

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(self, seconds: float = Input(default=0.0, ge=0, le=600)) -> float:
        began = time.time()
        time.sleep(seconds)
        return began
