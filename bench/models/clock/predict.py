"""Says what time it is, again and again: the same clock as everybody's on this machine."""

import time

from cog import BasePredictor, ConcatenateIterator, Input


class Predictor(BasePredictor):
    def predict(
        self, count: int = Input(default=20), pause_seconds: float = Input(default=0.05)
    ) -> ConcatenateIterator[str]:
        for _ in range(count):
            time.sleep(pause_seconds)
            yield f"{time.monotonic()} "
