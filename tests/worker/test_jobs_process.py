"""The process that works through RQ's queue ends when it is told to, whatever goes at the same moment."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError

from cli.embedded.redis import embedded_redis
from cli.embedded.sockets import socket_folder

WORK = (
    "import sys\nfrom core import jobs\nfrom core.settings import Settings\njobs.work(Settings(redis_url=sys.argv[1]))"
)
UP_SECONDS = 30.0
END_SECONDS = 60.0


def test_it_ends_though_redis_has_just_gone(tmp_path: Path) -> None:
    """As everything goes after a `kill -9` of whoever started it."""
    embedded = embedded_redis(socket_folder(tmp_path))
    server = subprocess.Popen(embedded.command, stdout=subprocess.DEVNULL)
    client = Redis.from_url(embedded.url)
    worker = None
    try:
        until_it_says(client.ping)
        worker = subprocess.Popen([sys.executable, "-c", WORK, embedded.url], stderr=subprocess.DEVNULL)
        until_it_says(lambda: client.scard("rq:workers"))
        server.kill()
        server.wait()
        worker.send_signal(signal.SIGTERM)
        worker.wait(END_SECONDS)
    finally:
        for process in filter(None, (worker, server)):
            process.kill()
            process.wait()
        client.close()


def until_it_says(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come up")
