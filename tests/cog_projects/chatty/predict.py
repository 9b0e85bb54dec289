"""Talks while it works: a log line per chunk on both streams, a pause, a chunk, and a metric at the end.

On Cog before 0.13 there are no metrics, and it records none.
"""
# ruff: noqa: T201 - printing is how a Cog model logs.

import sys
import time
from collections.abc import Iterator

import cog
from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def setup(self) -> None:
        print("chatty is set up", flush=True)

    def predict(
        self,
        count: int = Input(default=5, ge=0, description="How many chunks to yield."),
        sleep_seconds: float = Input(default=0.1, ge=0, description="Pause before each chunk."),
        fail: bool = Input(default=False, description="Raise after the last chunk."),
    ) -> Iterator[str]:
        for index in range(count):
            print(f"log {index}", flush=True)
            print(f"warning {index}", file=sys.stderr, flush=True)
            time.sleep(sleep_seconds)
            yield f"chunk {index}"
        if hasattr(cog, "current_scope"):
            cog.current_scope().record_metric("chunk_count", count)
        if fail:
            raise ValueError(f"chatty was asked to fail after {count} chunks")
