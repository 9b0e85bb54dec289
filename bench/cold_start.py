"""How long a call waits for a container that is not there, phase by phase.

`make bench-cold-start` runs it, with a model that imports and sets up nothing: all of it is the platform's part, Python
and Cog's two processes included. Each call is the first one of a model of its own; its artifact is there. What starting
the same server by hand takes, in the same run and in turns, tells how much of it is not Millrace's.
"""

import argparse
import asyncio
import shutil
import socket
import tempfile
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path

import orjson
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench.http import Connection
from bench.instance import Instance, running

MODEL = Path(__file__).parent / "models" / "no-op-sync"
_PHASES = ("queue_time", "pull_time", "create_time", "boot_time", "setup_time")
#: A node without a GPU has room for as many; more would wait for one of these to go.
_MODELS = 6
BOOT_SECONDS = 60.0
LOOK_SECONDS = 0.005
#: After `millrace up` says that it is ready, its processes still warm up.
_SETTLE_SECONDS = 10.0


async def first_call(instance: Instance, name: str) -> dict[str, float]:
    """The metrics of the first prediction of a model, with how long a caller who waits for it waits."""
    calls = await Connection.open(instance.url)
    headers = {"Authorization": f"Bearer {instance.token}", "Prefer": "wait=60"}
    began = time.monotonic()
    status, answer = await calls.post("/v1/predictions", {"version": f"millrace/{name}", "input": {}}, headers)
    took = time.monotonic() - began
    calls.close()
    assert (status, answer.get("status")) == (201, "succeeded"), answer
    return {**answer["metrics"], "caller": took}


async def by_hand(instance: Instance) -> float:
    """Seconds until the server of a container that runs is ready, started once more as it was."""
    record = next(instance.data.glob("instances/*/container.json"))
    server = psutil.Process(orjson.loads(record.read_bytes())["pid"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**server.environ(), "PORT": str(port)}
    began = time.monotonic()
    again = await asyncio.create_subprocess_exec(
        *server.cmdline(), cwd=server.cwd(), env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(BOOT_SECONDS):
            while b"READY" not in await health("127.0.0.1", port):  # noqa: ASYNC110 - a server announces nothing
                await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - began
    finally:
        for process in psutil.Process(again.pid).children(recursive=True):
            process.kill()
        again.kill()
        await again.wait()


async def health(host: str, port: int) -> bytes:
    """What the server says of itself; nothing where there is none yet."""
    try:
        server = await Connection.open(f"http://{host}:{port}")
    except OSError:
        return b""
    _, answer = await server.get("/health-check", {})
    server.close()
    return answer


async def measure(instance: Instance) -> Table:
    await asyncio.sleep(_SETTLE_SECONDS)
    found = []
    for number in range(_MODELS):
        metrics = await first_call(instance, f"cold-{number}")
        found.append({**metrics, "by hand": await by_hand(instance)})
    return shown(found, f"{_MODELS} cold starts of a no-op, process runtime")


def shown(found: list[dict[str, float]], title: str) -> Table:
    """Seconds by phase of each, as milliseconds, with what the phases of each take together."""
    table = Table("", "p50 ms", "max ms", title=title)
    for each in found:
        if phases := [each[phase] for phase in _PHASES if phase in each]:
            each["together"] = sum(phases)
    for row in (*_PHASES, "together", "by hand", "predict_time", "caller"):
        if row in found[0]:
            ordered = sorted(each[row] * 1000 for each in found)
            table.add_row(row, f"{ordered[len(ordered) // 2]:.0f}", f"{ordered[-1]:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5089)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-cold-") as folder:
        models = Path(folder)
        for number in range(_MODELS):
            shutil.copytree(MODEL, models / f"cold-{number}", ignore=shutil.ignore_patterns("__pycache__"))
            # Equal files would be one bundle.
            (models / f"cold-{number}" / "number").write_text(str(number))
        with running(models, options.port) as instance:
            Console(width=100).print(uvloop.run(measure(instance)))


if __name__ == "__main__":
    main()
