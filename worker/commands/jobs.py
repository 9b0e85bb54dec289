"""`python -m worker jobs`: works through RQ's queue. RQ's loop is sync, so its sign of life comes from a thread."""

import threading
import time

from core import health, jobs
from core.settings import Settings


def main(settings: Settings) -> int:
    threading.Thread(target=_beat_for_ever, args=(settings,), daemon=True).start()
    jobs.work(settings)
    return 0


def _beat_for_ever(settings: Settings) -> None:
    while True:
        health.beat(settings, "jobs")
        time.sleep(health.BEAT_SECONDS)
