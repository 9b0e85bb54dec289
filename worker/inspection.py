"""Asks a Cog project, in its own environment, what goes in and what comes out.

Runs `schema_inspector.py` there; the model is imported, never set up and never run.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.cog_config import CogConfig
from worker.environments import Environment
from worker.model_process import model_environment, run
from worker.runtimes.base import ArtifactUnavailable

SCRIPT = Path(__file__).with_name("schema_inspector.py")
# The first import of torch compiles it, which takes most of a minute on a slow disk.
TIMEOUT_SECONDS = 300
LOG_LINES = 20


class InspectionFailed(ArtifactUnavailable):
    """The model cannot be imported, or uses a type that Cog does not know; the message says which."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """`concurrency` is what cog.yaml says, or else the `@cog.concurrent` of the model, or else 1."""

    openapi_schema: dict[str, Any]
    concurrency: int
    cog_version: str


async def inspect_project(environment: Environment, folder: Path, config: CogConfig) -> Inspection:
    """The schema and the concurrency of the project in `folder`."""
    with tempfile.TemporaryDirectory(prefix="millrace-inspect-") as scratch:
        result_path = Path(scratch) / "result.json"
        arguments = [str(result_path), config.reference, *filter(None, [config.train_reference])]
        extra = {
            **config.environment,
            # Inspecting must not take a GPU's memory from a running model.
            "CUDA_VISIBLE_DEVICES": "",
            "COG_PREDICT_TYPE_STUB": config.reference,
        }
        try:
            finished = await run(
                [str(environment.python), "-I", str(SCRIPT), *arguments],
                environment=model_environment(environment.path, Path(scratch), extra),
                cwd=folder,
                timeout_seconds=TIMEOUT_SECONDS,
            )
        except TimeoutError:
            raise InspectionFailed(
                f"Importing {config.reference} took over {TIMEOUT_SECONDS} s; load in setup()."
            ) from None
        result = orjson.loads(result_path.read_bytes()) if result_path.exists() else {}
    if "openapi_schema" not in result:
        reason = result.get(
            "error", f"{config.reference} could not be loaded: Python exited with code {finished.code}."
        )
        raise InspectionFailed("\n".join((reason, *finished.lines[-LOG_LINES:])))
    return Inspection(result["openapi_schema"], config.concurrency or result["concurrency"], result["cog_version"])
