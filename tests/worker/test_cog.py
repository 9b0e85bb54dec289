"""What the client promises whatever the Cog, on real servers of three families."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from core.ids import new_id
from tests.support.cog_servers import CLASSIC, INSTANCE, OLDEST, STREAMING, VERSIONS, CogServers, cog_server
from tests.support.uploads import Uploads
from worker.cog import CogContainer, SetupFailed
from worker.events import Done, Event, Log, Metric, Output, Started

every_version = pytest.mark.parametrize("version", VERSIONS)
# Bounds what a broken client could hang; nothing here takes that long.
LIMIT_SECONDS = 30


async def run(container: CogContainer, /, **input: Any) -> list[Event]:
    async with asyncio.timeout(LIMIT_SECONDS):
        return [event async for event in container.predict(new_id(), input)]


def logs(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Log))


def chunks(events: list[Event]) -> list[Any]:
    outputs = [event for event in events if isinstance(event, Output)]
    assert list(range(len(outputs))) == [output.index for output in outputs]
    return [output.chunk for output in outputs]


@every_version
async def test_a_prediction_starts_gives_its_whole_output_and_ends(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "no-op-sync")

    assert [Started(), Output("hello", 0), Done("succeeded", "hello")] == await run(container, text="hello")


@every_version
async def test_predictions_back_to_back_never_meet_a_busy_container(cog_servers: CogServers, version: str) -> None:
    """Cog answers a prediction before it frees the slot."""
    container = await cog_servers.shared(version, "no-op-sync")

    for number in range(100):
        events = await run(container, text=str(number))

        assert Done("succeeded", str(number)) == events[-1]


@every_version
async def test_health_tells_the_family_and_whether_it_is_ready(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "no-op-sync")
    health = await container.health()

    assert health.accepts_predictions
    assert not health.recycle
    assert (version == STREAMING) == health.streams
    assert (STREAMING if version == STREAMING else None) == health.version


@every_version
async def test_setup_logs_are_the_models_alone(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    health = await container.health()

    assert "coglet" not in health.setup_logs
    assert version == STREAMING or health.setup_logs == "chatty is set up\n"


@every_version
async def test_an_iterator_tells_chunks_and_logs_as_they_come(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    events = await run(container, count=4, sleep_seconds=0.15)

    expected = [f"chunk {index}" for index in range(4)]
    assert expected == chunks(events) == events[-1].output
    assert [f"log {index}" for index in range(4)] == [
        line for line in logs(events).splitlines() if line.startswith("log ")
    ]
    assert [f"warning {index}" for index in range(4)] == [
        line for line in logs(events).splitlines() if line.startswith("warning ")
    ]
    first_chunk = next(place for place, event in enumerate(events) if isinstance(event, Output))
    assert any(isinstance(event, Log) for event in events[first_chunk:])


@every_version
async def test_what_the_model_measured_is_told_and_what_cog_measured_is_not(
    cog_servers: CogServers, version: str
) -> None:
    container = await cog_servers.shared(version, "chatty")
    events = await run(container, count=2, sleep_seconds=0)

    recorded = {} if version == OLDEST else {"chunk_count": 2}
    assert recorded == events[-1].metrics
    assert recorded == {event.name: event.value for event in events if isinstance(event, Metric)}


@every_version
async def test_a_model_that_raises_keeps_its_logs_and_its_partial_output(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    events = await run(container, count=2, sleep_seconds=0, fail=True)

    end = events[-1]
    assert end.status == "failed"
    assert end.error.removeprefix("ValueError: ") == "chatty was asked to fail after 2 chunks"
    assert ["chunk 0", "chunk 1"] == end.output == chunks(events)
    assert "log 1" in logs(events)
    assert not end.container_lost


@every_version
async def test_null_inputs_are_left_out(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "no-op-sync")

    assert Done("succeeded", "") == (await run(container, text=None))[-1]


@every_version
async def test_an_empty_string_is_an_output(cog_servers: CogServers, version: str) -> None:
    """Classic Cog says null; the schema says that it was a string."""
    container = await cog_servers.shared(version, "no-op-sync")

    assert [Started(), Output("", 0), Done("succeeded", "")] == await run(container)


@every_version
async def test_an_input_that_the_container_rejects_names_the_field(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    [end] = await run(container, count="many")

    assert end.status == "failed"
    assert end.error.startswith("The model does not accept this input: count: ")
    assert not end.container_lost


@every_version
async def test_cancel_ends_the_prediction_and_frees_the_slot(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    prediction_id = new_id()
    events: list[Event] = []
    async with asyncio.timeout(LIMIT_SECONDS):
        async for event in container.predict(prediction_id, {"count": 1000, "sleep_seconds": 0.05}):
            if isinstance(event, Output) and event.index == 1:
                assert await container.cancel(prediction_id)
            events.append(event)

    assert events[-1].status == "canceled"
    assert events[-1].error is None
    assert not events[-1].container_lost
    assert chunks(events)[:2] == ["chunk 0", "chunk 1"]
    assert (await run(container, count=1, sleep_seconds=0))[-1].status == "succeeded"


@every_version
async def test_cancel_of_an_unknown_prediction_says_so(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "no-op-sync")

    assert not await container.cancel(new_id())


@every_version
async def test_leaving_early_cancels_the_prediction(cog_servers: CogServers, version: str) -> None:
    container = await cog_servers.shared(version, "chatty")
    async with asyncio.timeout(LIMIT_SECONDS):
        async with aclosing(container.predict(new_id(), {"count": 1000, "sleep_seconds": 0.05})) as events:
            async for event in events:
                if isinstance(event, Log):
                    break

    assert (await run(container, count=1, sleep_seconds=0))[-1].status == "succeeded"


@every_version
async def test_an_id_that_could_be_a_path_is_refused(cog_servers: CogServers, version: str) -> None:
    """Newer Cog makes folders named after it."""
    container = await cog_servers.shared(version, "no-op-sync")

    with pytest.raises(ValueError, match="no prediction id"):
        container.predict("../../etc/x", {})


@pytest.mark.parametrize(
    ("version", "how"), [(STREAMING, "os_exit"), (STREAMING, "kill"), (CLASSIC, "kill"), (OLDEST, "os_exit")]
)
async def test_a_worker_that_dies_fails_its_prediction_and_asks_for_a_fresh_container(
    cog_servers: CogServers, version: str, how: str
) -> None:
    async with cog_servers.own(version, "misbehaving") as (_server, container):
        events = await run(container, how=how)

        end = events[-1]
        assert Started() == events[0]
        assert (end.status, end.container_lost) == ("failed", True)
        assert end.error.startswith("The model's process ")
        # Classic Cog posts the failure first and then says that it is defunct.
        await asyncio.sleep(0 if version == STREAMING else 0.2)
        assert (await container.health()).recycle

        [refused] = await run(container, how="raise")

        assert (refused.status, refused.container_lost) == ("failed", True)
        assert "is dead" in refused.error


@pytest.mark.parametrize("version", [STREAMING, CLASSIC])
async def test_a_container_that_is_killed_fails_its_prediction(cog_servers: CogServers, version: str) -> None:
    async with cog_servers.own(version, "chatty") as (server, container):
        events = []
        async with asyncio.timeout(LIMIT_SECONDS):
            async for event in container.predict(new_id(), {"count": 1000, "sleep_seconds": 0.05}):
                events.append(event)
                if isinstance(event, Started):
                    server.kill()

        assert (events[-1].status, events[-1].container_lost) == ("failed", True)
        assert events[-1].error.startswith("The container ")
        assert (await container.health()).status == "unknown"
        [never_began] = await run(container, count=1)
        assert never_began.container_lost
        assert not await container.cancel(new_id())


@every_version
async def test_a_model_whose_setup_fails_says_why(cog_servers: CogServers, version: str) -> None:
    broken = {"MISBEHAVE_IN_SETUP": "raise"}
    async with cog_server(version, "misbehaving", environment=broken) as server:
        with pytest.raises(SetupFailed, match="setup failed: .*misbehaving was asked to raise") as caught:
            await cog_servers.ready(server)

        # Newer Cog keeps the model's own lines to its stderr.
        assert version == STREAMING or "about to raise in setup" in caught.value.logs


@pytest.mark.parametrize("version", [STREAMING, OLDEST])
async def test_a_model_that_dies_in_setup_says_so(cog_servers: CogServers, version: str) -> None:
    async with cog_server(version, "misbehaving", environment={"MISBEHAVE_IN_SETUP": "kill"}) as server:
        with pytest.raises(SetupFailed, match="process died during setup"):
            await cog_servers.ready(server)


async def test_a_container_that_ends_before_it_is_ready_says_how(cog_servers: CogServers) -> None:
    async with cog_server(STREAMING, "no-op-sync", environment={"COG_PREDICT_TYPE_STUB": ""}) as server:
        with pytest.raises(SetupFailed, match="ended before it was ready: exit code 1"):
            await cog_servers.ready(server)


async def test_a_setup_that_takes_too_long_is_given_up(cog_servers: CogServers) -> None:
    async with cog_server(STREAMING, "misbehaving", environment={"MISBEHAVE_IN_SETUP": "sleep"}) as server:
        with pytest.raises(SetupFailed, match=r"not ready after 1 s: it still says starting"):
            await cog_servers.client(server).wait_until_ready(1, server.exited)


@pytest.mark.parametrize("version", [STREAMING, CLASSIC])
async def test_slots_run_side_by_side(cog_servers: CogServers, version: str) -> None:
    async with cog_server(version, "no-op", slots=4) as server:
        container = cog_servers.client(server, slots=4)
        await container.wait_until_ready(LIMIT_SECONDS, server.exited)

        ends = await asyncio.gather(*(run(container, text=str(number)) for number in range(4)))

        assert [Done("succeeded", str(number)) for number in range(4)] == [events[-1] for events in ends]


FOUR_FILES = """
from cog import BasePredictor, Path
from typing import List
import tempfile

class Predictor(BasePredictor):
    def predict(self) -> List[Path]:
        named = [("z.txt", "1"), ("a.txt", "2"), ("a.txt", "3"), ("m.txt", "4")]
        return [self.file(name, text) for name, text in named]

    def file(self, name: str, text: str) -> Path:
        path = Path(tempfile.mkdtemp()) / name
        path.write_text(text)
        return Path(path)
"""


@every_version
async def test_files_of_a_list_keep_their_order_and_none_replaces_another(
    cog_servers: CogServers, uploads: Uploads, version: str
) -> None:
    container = await cog_servers.shared(version, FOUR_FILES)
    end = (await run(container))[-1]

    if version == STREAMING:
        assert [f"data:text/plain;base64,{text}" for text in ("MQ==", "Mg==", "Mw==", "NA==")] == end.output
    else:
        assert [uploads.stored[location].content for location in end.output] == [b"1", b"2", b"3", b"4"]
        assert len(set(end.output)) == 4


ONE_FILE = """
from cog import BasePredictor, Path
import tempfile

class Predictor(BasePredictor):
    def predict(self) -> Path:
        path = Path(tempfile.mkdtemp()) / "one.txt"
        path.write_text("one")
        return Path(path)
"""


@pytest.mark.parametrize("version", [STREAMING, OLDEST])
async def test_a_single_file_is_uploaded_and_its_location_is_the_output(
    cog_servers: CogServers, uploads: Uploads, version: str
) -> None:
    upload_url = cog_servers.endpoint.upload_url(INSTANCE)
    async with cog_server(version, ONE_FILE, upload_url) as server:
        container = await cog_servers.ready(server)
        started, output, end = await run(container)

    upload = uploads.stored[end.output]
    assert (started, output) == (Started(), Output(end.output, 0))
    assert (
        upload.instance_id,
        upload.filename,
        upload.content_type,
        upload.content,
    ) == (INSTANCE, "one.txt", "text/plain", b"one")
    assert upload.prediction_id


async def test_shutdown_ends_the_server(cog_servers: CogServers) -> None:
    async with cog_servers.own(STREAMING, "no-op-sync") as (server, container):
        assert await container.shutdown()
        await asyncio.to_thread(server.process.wait, LIMIT_SECONDS)
