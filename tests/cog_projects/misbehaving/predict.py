"""Does the wrong thing that is asked for, in predict or in setup.

Setup misbehaves when the variable MISBEHAVE_IN_SETUP, or a file `misbehave-in-setup` beside cog.yaml, names how.
"""
# ruff: noqa: T201 - printing is how a Cog model logs.

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cog import BasePredictor, Input

SETUP_VARIABLE = "MISBEHAVE_IN_SETUP"
SETUP_FILE = Path("misbehave-in-setup")


class Predictor(BasePredictor):
    def setup(self) -> None:
        named_in_file = SETUP_FILE.read_text().strip() if SETUP_FILE.exists() else ""
        how = os.environ.get(SETUP_VARIABLE) or named_in_file
        if how:
            print(f"about to {how} in setup", flush=True)
            misbehave(how, seconds=600, megabytes=0)

    def predict(
        self,
        how: str = Input(
            description="What to do wrong.",
            choices=["raise", "sys_exit", "os_exit", "kill", "sleep", "ignore_cancel", "allocate"],
        ),
        seconds: float = Input(default=600, ge=0, le=3600, description="For sleep and ignore_cancel."),
        megabytes: int = Input(default=256, ge=0, description="For allocate."),
    ) -> str:
        print(f"about to {how}", flush=True)
        misbehave(how, seconds, megabytes)
        return f"survived {how}"


def misbehave(how: str, seconds: float, megabytes: int) -> None:
    acts: dict[str, Callable[[], object]] = {
        "raise": raise_error,
        "sys_exit": lambda: sys.exit(3),
        "os_exit": lambda: os._exit(3),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "sleep": lambda: time.sleep(seconds),
        "ignore_cancel": lambda: ignore_cancel(seconds),
        "allocate": lambda: len(b"\x01" * (megabytes << 20)),
    }
    acts[how]()


def raise_error() -> None:
    raise RuntimeError("misbehaving was asked to raise")


def ignore_cancel(seconds: float) -> None:
    """Sleep in long C calls; carry on when a cancel is raised, by classic Cog within the call, by newer after it."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except BaseException as interruption:
            print(f"ignoring {type(interruption).__name__}", flush=True)
