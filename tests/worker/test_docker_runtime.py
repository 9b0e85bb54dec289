"""The docker runtime, against a real engine, a real registry and images of every Cog family."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import aiohttp
import docker
import pytest
from aiohttp import web
from docker.errors import NotFound

from core.errors import Unavailable
from core.settings import Settings
from tests.support.docker_fixtures import ModelImage
from tests.support.docker_images import plain_image, push
from worker.registry import image_artifact
from worker.runtimes.base import Artifact, ArtifactUnavailable, Container, ContainerSpec
from worker.runtimes.docker import DockerRuntime
from worker.runtimes.docker_options import METADATA_ADDRESS

pytestmark = pytest.mark.docker

NETWORK = f"millrace-test-{os.getpid()}"
MIB = 1024**2
BOOT_SECONDS = 60
KILLED = 128 + 9

# Servers that end in their own ways, started by the command that starts Cog.
SERVER = "cog/server/http.py"
ENDS_WITH_3 = {SERVER: "print('giving up', flush=True)\nraise SystemExit(3)\n"}
EATS_MEMORY = {SERVER: "hoard = []\nwhile True:\n    hoard.append(b'x' * (8 << 20))\n"}
WAITS = {SERVER: "import signal\nprint('waiting', flush=True)\nwhile True:\n    signal.pause()\n"}
IGNORES_INTERRUPTS = {SERVER: "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True:\n    signal.pause()\n"}

StartPlain = Callable[..., Awaitable[Container]]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(installation=f"test-{uuid.uuid4().hex}", node_name="node-1", docker_network=NETWORK)


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(settings)
    yield runtime
    for container in await runtime.list():
        await runtime.stop(container, 0)
    await runtime.close()


@pytest.fixture(autouse=True, scope="module")
def _no_network_is_left(docker_client: docker.DockerClient) -> Iterator[None]:
    yield
    with suppress(NotFound):
        docker_client.networks.get(NETWORK).remove()


@pytest.fixture
def start_plain(runtime: DockerRuntime, docker_client: docker.DockerClient, image_registry: str) -> StartPlain:
    """Starts a container of an image that holds `files` in /src."""

    async def start(files: dict[str, str], **changes: object) -> Container:
        reference = push(docker_client, plain_image(docker_client, files), f"{image_registry}/tests/plain")
        artifact = Artifact("image", reference, {}, {"openapi": "3.0.2"})
        await runtime.ensure(artifact)
        return await runtime.start(replace(spec_of(artifact), **changes))

    return start


def spec_of(artifact: Artifact) -> ContainerSpec:
    return ContainerSpec(
        instance_id=uuid.uuid4().hex,
        version_id="v" * 64,
        artifact=artifact,
        slots=1,
        uploads_url="http://127.0.0.1:9",
        memory_bytes=1024 * MIB,
    )


async def artifact_of(reference: str) -> Artifact:
    image = await image_artifact(reference)
    return Artifact("image", image.reference, image.config, image.openapi_schema)


async def health(container: Container) -> str:
    async with aiohttp.ClientSession() as http:
        try:
            async with http.get(f"{container.base_url}/health-check") as response:
                return (await response.json())["status"]
        except aiohttp.ClientError:
            return "NOT LISTENING"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(BOOT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - nothing announces what another machine's process does
            await asyncio.sleep(0.1)


async def until_exited(runtime: DockerRuntime, container: Container) -> str:
    async def exited() -> bool:
        return await runtime.exited(container) is not None

    await until(exited)
    found = await runtime.exited(container)
    assert found is not None
    return found.reason


async def predict(container: Container, given: dict[str, object], accept: str = "application/json") -> tuple[str, str]:
    """Content type and body. PUT, because Cog streams only what has an id."""
    url = f"{container.base_url}/predictions/{uuid.uuid4().hex}"
    async with (
        aiohttp.ClientSession(headers={"Accept": accept}) as http,
        http.put(url, json={"input": given}) as response,
    ):
        assert response.status == 200, await response.text()
        return response.content_type, await response.text()


@pytest.mark.parametrize("cog", ["0.23.1", "0.16.12", "0.9.26"])
async def test_an_image_is_pulled_started_asked_and_gone_again(
    cog: str,
    runtime: DockerRuntime,
    docker_client: docker.DockerClient,
    model_image: ModelImage,
) -> None:
    artifact = await artifact_of(model_image("no-op-sync", cog))
    docker_client.images.remove(artifact.reference, force=True)
    await runtime.ensure(artifact)
    container = await runtime.start(spec_of(artifact))

    async def is_ready() -> bool:
        return await health(container) == "READY"

    await until(is_ready)
    assert await runtime.exited(container) is None
    assert await runtime.list() == [container]
    assert '"output":"Ada"' in (await predict(container, {"text": "Ada"}))[1].replace(": ", ":")

    exit_code = asyncio.create_task(asyncio.to_thread(docker_client.containers.get(container.id).wait))
    await runtime.stop(container, grace_seconds=60)
    assert (await exit_code)["StatusCode"] != KILLED, "Cog did not heed the request to stop"
    assert await runtime.list() == []
    with pytest.raises(NotFound):
        docker_client.containers.get(container.id)


async def test_newer_cog_streams_a_model_that_did_not_ask_for_it(
    runtime: DockerRuntime, model_image: ModelImage
) -> None:
    artifact = await artifact_of(model_image("no-op-sync", "0.23.1"))
    container = await runtime.start(spec_of(artifact))

    async def is_ready() -> bool:
        return await health(container) == "READY"

    await until(is_ready)
    content_type, events = await predict(container, {"text": "Ada"}, "text/event-stream")
    assert content_type == "text/event-stream"
    assert "event: completed" in events


async def test_a_server_that_ignores_the_request_is_killed(runtime: DockerRuntime, start_plain: StartPlain) -> None:
    container = await start_plain(IGNORES_INTERRUPTS)
    await runtime.stop(container, grace_seconds=0.1)
    assert await runtime.list() == []


async def test_stopping_twice_is_harmless(runtime: DockerRuntime, start_plain: StartPlain) -> None:
    container = await start_plain(WAITS)
    await asyncio.gather(runtime.stop(container, 0), runtime.stop(container, 0))
    await runtime.stop(container, 0)
    assert await runtime.list() == []
    gone = await runtime.exited(container)
    assert gone is not None
    assert "removed" in gone.reason


async def test_a_restarted_node_finds_its_containers_and_what_they_hold(
    settings: Settings, runtime: DockerRuntime, start_plain: StartPlain
) -> None:
    running, exited = await start_plain(WAITS), await start_plain(ENDS_WITH_3)
    await until_exited(runtime, exited)
    restarted = DockerRuntime(settings)
    found = {container.instance_id: container for container in await restarted.list()}
    assert found[running.instance_id] == running
    assert found[exited.instance_id].base_url == ""
    await restarted.close()


async def test_containers_of_others_are_neither_listed_nor_touched(
    settings: Settings, runtime: DockerRuntime, docker_client: docker.DockerClient, start_plain: StartPlain
) -> None:
    container = await start_plain(WAITS)
    neighbours = [
        DockerRuntime(settings.model_copy(update={"node_name": "node-2"})),
        DockerRuntime(settings.model_copy(update={"installation": "another"})),
    ]
    for neighbour in neighbours:
        assert await neighbour.list() == []
        assert await neighbour.logs(container) == ""
        await neighbour.stop(container, 0)
        await neighbour.close()
    assert docker_client.containers.get(container.id).status == "running"


async def test_an_exit_is_explained(runtime: DockerRuntime, start_plain: StartPlain) -> None:
    container = await start_plain(ENDS_WITH_3)
    assert "ended with code 3" in await until_exited(runtime, container)
    assert await runtime.logs(container) == "giving up\n"


async def test_a_container_over_its_memory_limit_says_so(runtime: DockerRuntime, start_plain: StartPlain) -> None:
    container = await start_plain(EATS_MEMORY, memory_bytes=64 * MIB)
    assert "used more memory than its limit" in await until_exited(runtime, container)


async def test_logs_end_with_the_last_bytes(runtime: DockerRuntime, start_plain: StartPlain) -> None:
    container = await start_plain(ENDS_WITH_3)
    await until_exited(runtime, container)
    assert await runtime.logs(container, tail_bytes=4) == "ing up\n"[-4:]


async def test_a_gpu_that_is_not_there_is_refused_and_nothing_is_left(
    runtime: DockerRuntime, start_plain: StartPlain
) -> None:
    with pytest.raises(Unavailable, match=r"Docker could not start a container: .*(nvidia|gpu|GPU)"):
        await start_plain(WAITS, gpu_uuids=("GPU-00000000-0000-0000-0000-000000000000",))
    assert await runtime.list() == []


async def test_model_containers_reach_their_node_but_neither_each_other_nor_metadata(
    runtime: DockerRuntime, docker_client: docker.DockerClient, start_plain: StartPlain
) -> None:
    asker, neighbour = await start_plain(WAITS), await start_plain({SERVER: LISTENS})
    assert docker_client.containers.get(neighbour.id).status == "running"
    async with _http_server() as port:
        assert await _fetch(docker_client, asker, f"http://{await runtime.callback_host()}:{port}/") == "hello"
        assert await _fetch(docker_client, asker, f"{neighbour.base_url}/") == "timed out"
    # Connecting a datagram socket asks the routing table and sends nothing.
    route = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('%s', 80)); print(s.getsockname()[0])"
    assert _python(docker_client, asker, route % METADATA_ADDRESS) == METADATA_ADDRESS
    assert _python(docker_client, asker, route % "169.254.170.2") == METADATA_ADDRESS


async def test_a_container_gets_no_privileges_and_bounded_resources(
    runtime: DockerRuntime, docker_client: docker.DockerClient, start_plain: StartPlain
) -> None:
    container = await start_plain(WAITS, environment={"GREETING": "hi", "PORT": "1"})
    status = _python(docker_client, container, "print(open('/proc/self/status').read())")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    sizes = _python(
        docker_client, container, "import os; print([os.statvfs(p).f_blocks for p in ('/tmp', '/dev/shm')])"
    )
    assert sizes == str([512 * MIB // 4096] * 2)
    environment = _python(docker_client, container, "import os; print(dict(os.environ))")
    assert "'GREETING': 'hi'" in environment
    assert "'PORT': '5000'" in environment
    assert "MILLRACE" not in environment
    limits = docker_client.containers.get(container.id).attrs["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"], limits["PidsLimit"]) == (1024 * MIB, 1024 * MIB, 4096)
    assert limits["PortBindings"] in (None, {})


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("{registry}/tests/no-op-sync:latest", "is not pinned"),
        ("{registry}/tests/nothing@sha256:" + "0" * 64, "is not to be had"),
        ("127.0.0.1:9/tests/nothing@sha256:" + "0" * 64, "is not to be had"),
    ],
)
async def test_an_image_that_cannot_be_pulled_is_refused_in_a_sentence(
    reference: str, sentence: str, runtime: DockerRuntime, image_registry: str
) -> None:
    artifact = Artifact("image", reference.format(registry=image_registry), {}, {})
    with pytest.raises(ArtifactUnavailable, match=sentence):
        await runtime.ensure(artifact)


LISTENS = """
import http.server
http.server.HTTPServer(("", 5000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@asynccontextmanager
async def _http_server() -> AsyncIterator[int]:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def _fetch(client: docker.DockerClient, container: Container, url: str) -> str:
    code = (
        "import urllib.request\n"
        f"try: print(urllib.request.urlopen({url!r}, timeout=3).read().decode())\n"
        "except Exception as error: print(getattr(error, 'reason', error))"
    )
    return await asyncio.to_thread(_python, client, container, code)


def _python(client: docker.DockerClient, container: Container, code: str) -> str:
    return client.containers.get(container.id).exec_run(["python", "-c", code]).output.decode().strip()
