"""How late a listener has what a model says: container, node, Redis, api, listener, as `millrace up` runs them.

`make bench-streams` runs it. The model says the time at which it speaks, so that Cog's own share is in the figures.
"""

import argparse
import asyncio
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from rich.console import Console
from rich.table import Table

from bench.http import Connection
from bench.instance import Instance, running

_MODELS = Path(__file__).parent / "models"
_DATA = re.compile(rb"event: output\nid: \S+\ndata: ([\d.]+) ")
_END_SECONDS = 60
_PAUSE_SECONDS = 0.05


async def delays_ms(instance: Instance, chunks: int) -> list[float]:
    """Milliseconds from each word of one prediction to its listener, in the order in which they were said."""
    calls = await Connection.open(instance.url)
    body = {"version": "millrace/clock", "input": {"count": chunks, "pause_seconds": _PAUSE_SECONDS}}
    status, answer = await calls.post("/v1/predictions", body, {"Authorization": f"Bearer {instance.token}"})
    assert status == 201, answer
    stream = urlsplit(answer["urls"]["stream"])
    calls.writer.write(f"GET {stream.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    found: list[float] = []
    async with asyncio.timeout(_END_SECONDS):
        while True:
            received = await calls.reader.read(65536)
            now = time.monotonic()
            found += [(now - float(said)) * 1000 for said in _DATA.findall(received)]
            if b"event: done" in received:
                break
    calls.close()
    assert len(found) == chunks, f"{len(found)} of {chunks} words were heard"
    return found


async def measure(instance: Instance, predictions: int, chunks: int) -> Table:
    await delays_ms(instance, chunks)
    each = [await delays_ms(instance, chunks) for _ in range(predictions)]
    table = Table(
        "word", "p50 ms", "p95 ms", "max ms", title=f"From the model to its listener, {predictions} predictions"
    )
    table.add_row("the first", *_figures([one[0] for one in each]))
    table.add_row("all", *_figures([delay for one in each for delay in one]))
    return table


def _figures(delays: list[float]) -> list[str]:
    ordered = sorted(delays)
    return [f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.1f}" for share in (0.5, 0.95, 1)]


async def _main(arguments: argparse.Namespace) -> None:
    with running(_MODELS, arguments.port) as instance:
        Console(width=110).print(await measure(instance, arguments.predictions, arguments.chunks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--predictions", type=int, default=30)
    parser.add_argument("--chunks", type=int, default=20)
    uvloop.run(_main(parser.parse_args()))
