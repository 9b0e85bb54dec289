"""Real environments for tests that run bundles; kept between runs, for each takes seconds to build."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from core.bundles import digest, pack
from core.cog_config import read_config
from core.settings import Settings
from worker.environments import Environments
from worker.inspection import inspect_project
from worker.runtimes.base import Artifact, Container, ContainerSpec
from worker.runtimes.process import Fetch, ProcessRuntime

CACHE = Path(os.environ.get("MILLRACE_TEST_CACHE") or Path.home() / ".cache" / "millrace-tests").absolute()
BOOT_TIMEOUT_SECONDS = 60


def shared_environments() -> Environments:
    return Environments(CACHE / "environments")


def data_folder(path: Path) -> Path:
    """A folder for MILLRACE_DATA whose environments are the shared ones."""
    (CACHE / "environments").mkdir(parents=True, exist_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "environments").exists():
        (path / "environments").symlink_to(CACHE / "environments")
    return path


def fetch_from(*projects: Path) -> Fetch:
    """Stands where the file store stands: packs a project when its digest is asked for."""
    by_digest = {digest(project): project for project in projects}

    async def fetch(reference: str, archive: Path) -> None:
        await asyncio.to_thread(pack, by_digest[reference], archive)

    return fetch


def process_runtime(data: Path, *projects: Path, node_name: str = "test-node") -> ProcessRuntime:
    """A runtime that can fetch the bundles of `projects`."""
    return ProcessRuntime(Settings(data=data_folder(data), node_name=node_name), fetch_from(*projects))


async def bundle_artifact(project: Path) -> Artifact:
    """What publishing `project` makes of it."""
    config = read_config(project)
    environment = await shared_environments().ensure(config)
    inspection = await inspect_project(environment, project, config)
    return Artifact("bundle", digest(project), {}, inspection.openapi_schema)


def container_spec(artifact: Artifact, instance_id: str, **changes: Any) -> ContainerSpec:
    fields: Mapping[str, Any] = {"slots": 1, "uploads_url": "http://127.0.0.1:9/uploads", **changes}
    return ContainerSpec(instance_id=instance_id, version_id="version", artifact=artifact, **fields)


async def health(container: Container, http: aiohttp.ClientSession) -> dict[str, Any]:
    """The first health that is not `STARTING`."""
    async with asyncio.timeout(BOOT_TIMEOUT_SECONDS):
        while True:
            try:
                async with http.get(f"{container.base_url}/health-check") as response:
                    body = await response.json()
            except aiohttp.ClientError:
                body = {"status": "STARTING"}
            if body["status"] != "STARTING":
                return body
            await asyncio.sleep(0.02)
