"""Keeps its device busy for as long as it is asked to, and says for how long that was by the device's own clock.

`hold.txt` says how many bytes it holds from setup on, as weights would; `torch.txt` where torch is, if not in its venv.
"""

import sys
import time
from pathlib import Path

from cog import BaseModel, BasePredictor, Input

_HERE = Path(__file__).parent
if (_HERE / "torch.txt").exists():
    # Last, so that everything but torch comes from the venv.
    sys.path.append((_HERE / "torch.txt").read_text().strip())

import torch  # noqa: E402

_SIZE = {"cuda": 4096, "cpu": 384}
_WARM_UP = 20


class Output(BaseModel):
    began: float
    """By CLOCK_MONOTONIC of this machine."""
    ended: float
    busy_seconds: float
    """By CUDA events where there is a GPU."""


class Predictor(BasePredictor):
    def setup(self) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(1)
        self._weights = torch.ones(int((_HERE / "hold.txt").read_text()), dtype=torch.uint8, device=self._device)
        size = _SIZE[self._device]
        self._matrix = torch.randn(size, size, device=self._device) / size
        self._steps(_WARM_UP)
        self._step_seconds = self._steps(_WARM_UP) / _WARM_UP

    def predict(self, milliseconds: int = Input(default=50, ge=1, le=60_000)) -> Output:
        began = time.monotonic()
        busy = self._steps(max(1, round(milliseconds / 1000 / self._step_seconds)))
        return Output(began=began, ended=time.monotonic(), busy_seconds=busy)

    def _steps(self, count: int) -> float:
        if self._device == "cpu":
            began = time.perf_counter()
            self._multiply(count)
            return time.perf_counter() - began
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        self._multiply(count)
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000

    def _multiply(self, count: int) -> None:
        result = self._matrix
        for _ in range(count):
            result = self._matrix @ result
