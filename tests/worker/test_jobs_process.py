"""The process that works through RQ's queue ends when it is told to, whatever goes at the same moment."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cli.embedded.redis import embedded_redis
from cli.embedded.sockets import socket_folder

WORK = "import sys; from core import jobs, settings; jobs.work(settings.Settings(redis_url=sys.argv[1]))"
UP_SECONDS = 30.0
TRIES = 300
END_SECONDS = 60.0


def test_it_ends_though_redis_has_just_gone(tmp_path: Path) -> None:
    """As everything goes after a `kill -9` of whoever started it."""
    embedded = embedded_redis(socket_folder(tmp_path))
    server = subprocess.Popen(embedded.command, stdout=subprocess.DEVNULL)
    client = Redis.from_url(embedded.url, retry=Retry(ConstantBackoff(0.1), TRIES))
    worker = None
    try:
        client.ping()
        worker = subprocess.Popen([sys.executable, "-c", WORK, embedded.url], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + UP_SECONDS
        while not client.scard("rq:workers") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.scard("rq:workers"), "it did not come up"
        server.kill()
        server.wait()
        worker.send_signal(signal.SIGTERM)
        worker.wait(END_SECONDS)
    finally:
        for process in filter(None, (worker, server)):
            process.kill()
            process.wait()
        client.close()
