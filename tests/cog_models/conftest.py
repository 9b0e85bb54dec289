"""Serves the models of cog_models/ as the node does, in their own environments, which are kept between test runs.

A model is started by the first test that asks for it, and serves until the last has ended.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.cog_models.served import MODELS, Model, Serve
from tests.support.bundles import bundle_artifact, container_spec, process_runtime
from worker.cog import CogContainer, HookInbox
from worker.runtimes.process import ProcessRuntime

# The first import of torch, from a cold disk, with bytecode to write, on a shared core.
READY_SECONDS = 180
# These models stream, so nothing is posted back to a hook.
NO_HOOKS = HookInbox("http://127.0.0.1:9")


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> ProcessRuntime:
    projects = [path.parent for path in MODELS.glob("*/cog.yaml")]
    return process_runtime(tmp_path_factory.mktemp("models"), *projects)


@pytest.fixture(scope="session")
async def serve(runtime: ProcessRuntime) -> AsyncIterator[Serve]:
    served: dict[str, Model] = {}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def serve(name: str) -> Model:
            if name not in served:
                served[name] = Model(await start(name))
            return served[name]

        async def start(name: str) -> CogContainer:
            artifact = await bundle_artifact(MODELS / name)
            await runtime.ensure(artifact)
            container = await runtime.start(container_spec(artifact, name, uploads_url=None))
            stack.push_async_callback(runtime.stop, container, grace_seconds=0)

            async def exited() -> str | None:
                end = await runtime.exited(container)
                return end and f"{end.reason}\n{await runtime.logs(container)}"

            output_schema = artifact.openapi_schema["components"]["schemas"]["Output"]
            client = CogContainer(
                container.base_url, session=http, hooks=NO_HOOKS, slots=1, output_schema=output_schema
            )
            await client.wait_until_ready(READY_SECONDS, exited)
            return client

        yield serve
