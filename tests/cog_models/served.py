"""A model of cog_models/ that is being served, seen as its worker sees it. Files are given inline."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.ids import new_id
from worker.cog import CogContainer
from worker.events import Done, Log, Output

MODELS = Path(__file__).parents[2] / "cog_models"
PREDICT_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Result:
    done: Done
    chunks: list[Any]
    logs: str


@dataclass(frozen=True, slots=True)
class Model:
    container: CogContainer

    async def predict(self, **input: Any) -> Result:
        async with asyncio.timeout(PREDICT_TIMEOUT_SECONDS):
            events = [event async for event in self.container.predict(new_id(), input)]
        done = events[-1]
        assert isinstance(done, Done)
        chunks = [event.chunk for event in events if isinstance(event, Output)]
        return Result(done, chunks, "".join(event.text for event in events if isinstance(event, Log)))


Serve = Callable[[str], Awaitable[Model]]
"""Starts the model of this name, if it is not being served yet."""


def data_uri(content: bytes, content_type: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


def content_of(uri: str) -> bytes:
    header, _, encoded = uri.partition(",")
    assert header.endswith(";base64"), header
    return base64.b64decode(encoded, validate=True)
