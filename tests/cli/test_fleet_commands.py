"""`millrace nodes`, `instances`, `explain` and `place`: the operator's view, on eighty columns and in a pipe."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from sqlalchemy import Row, update

from cli import explain, instances, nodes, placing
from cli.errors import Refusal
from cli.operating import Work
from core import events, fleet, predictions, timeline, upkeep
from core.catalog import Runnable
from core.lifecycle import InstanceStatus
from core.predictions import Outcome, PredictionStatus
from core.reports import fleet as reports
from core.resources import Resources
from core.settings import Settings
from core.tables import Node
from tests.support.factories import add_account, add_instance, add_node, add_prediction, add_runnable

MILLRACE = Path(sys.executable).with_name("millrace")
GIB = 1024**3
#: As narrow as a terminal mostly is.
COLUMNS = 80


def gpu(uuid: str, **more: object) -> dict[str, object]:
    well = {"name": "NVIDIA H200", "memory_bytes": 139 * GIB, "used_bytes": 0, "healthy": True, "reason": None}
    return {"uuid": uuid, **well, **more}


@dataclass(frozen=True)
class Fleet:
    resources: Resources
    busy: Row
    runnable: Runnable
    instance_id: str
    prediction: Row

    async def nodes(self) -> str:
        async with self.resources.database.autocommit() as tx:
            return shown(nodes.page(await reports.nodes(tx)))

    async def instances(self) -> str:
        async with self.resources.database.autocommit() as tx:
            return shown(instances.page(await reports.instances(tx)))

    async def explained(self) -> str:
        async with self.resources.database.autocommit() as tx:
            row = await predictions.find(tx, self.prediction.id)
            return shown(explain.page(row, await timeline.of(tx, row, sees_all=True)))


def shown(page: RenderableType) -> str:
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), highlight=False, markup=False)
    console.print(page)
    return console.export_text()


@pytest.fixture
async def scene(resources: Resources, clean_database: None) -> Fleet:
    """Two machines with three devices, of which one is ill and one is held by somebody else; one container works."""
    foreign = [{"pid": 4242, "name": "python", "memory_bytes": 21 * GIB}]
    devices = [
        gpu("GPU-a", used_bytes=22 * GIB),
        gpu("GPU-b", used_bytes=21 * GIB, foreign=foreign),
        gpu("GPU-c", healthy=False, reason="It has 3 uncorrected memory errors: reset it, or have it replaced."),
    ]
    database = resources.database
    async with database.transaction() as tx:
        account, runnable = await add_account(tx), await add_runnable(tx)
        busy = await add_node(tx, name="gpu-1", gpus=devices)
        await add_node(tx, name="gpu-2", gpus=[gpu("GPU-d", throttled=True, temperature=91)])
        await fleet.heartbeat(tx, busy.id, busy.boot_id, devices, 600.0, clock=0.0, artifacts=["a", "b"])
        gone = await add_node(tx, name="old-box")
        await fleet.release_lease(tx, gone.id, gone.boot_id)
    prediction = await add_prediction(database, account.id, runnable)
    async with database.transaction() as tx:
        await events.record(
            tx, events.target(runnable.target), events.SCHEDULER, reason="1 of 1 NVIDIA H200 busy; 3 are ahead of it."
        )
        instance_id = await add_instance(tx, busy, runnable, ("GPU-a",))
        await fleet.note_activity(tx, [instance_id])
    async with database.transaction() as tx:
        await predictions.start(tx, prediction.id, instance_id, busy.boot_id)
    return Fleet(resources, busy, runnable, instance_id, prediction)


async def test_nodes_tell_what_they_are_and_what_holds_each_of_their_devices(scene: Fleet) -> None:
    async with scene.resources.database.transaction() as tx:
        await upkeep.cordon(tx, "gpu-1", True, "operator")
        await upkeep.drain_node(tx, "gpu-2", 300.0, "operator")
        await upkeep.label(tx, "gpu-2", {"zone": "a", "disk": "fast"}, "operator")
        await upkeep.share(tx, "gpu-2", True, "operator")
    page = await scene.nodes()
    lines = page.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    words = " ".join(page.split())
    assert "cordoned" in words
    assert "draining, 5 min" in words or "draining, 4 min" in words or "draining, 300 s" in words, page
    assert "zone=a shares its GPUs" in words
    assert "stopped" in next(line for line in lines if line.startswith("old-box"))
    assert "1 of 8" in next(line for line in lines if line.startswith("gpu-1"))
    assert scene.instance_id[-8:] in words
    for told in ("process 4242 (python)", "21.0 GiB", "not ours", "uncorrected memory", "22.0 of 139.0", "throttled"):
        assert told in words, page


async def test_instances_tell_where_they_are_and_what_they_run(scene: Fleet) -> None:
    page = await scene.instances()
    assert max(map(len, page.splitlines())) <= COLUMNS
    words = " ".join(page.split())
    assert f"runs {scene.prediction.id[-8:]}" in words
    assert "gpu-1" in words
    async with scene.resources.database.transaction() as tx:
        await predictions.finish(tx, scene.prediction.id, 1, Outcome(PredictionStatus.SUCCEEDED, micros=1))
        await upkeep.drain_instance(tx, scene.instance_id, 60.0, "Its node gets a new disk.", "operator")
    words = " ".join((await scene.instances()).split())
    assert "idle" in words
    assert "leaves:" in words


async def test_a_container_that_comes_up_tells_how_far_it_is(scene: Fleet) -> None:
    async with scene.resources.database.transaction() as tx:
        runnable = scene.runnable
        id = await fleet.assign(
            tx,
            node_id=scene.busy.id,
            target=runnable.target,
            version_id=runnable.version_id,
            hardware_sku=runnable.hardware_sku,
            slots=1,
            gpu_uuids=(),
        )
        await fleet.move_instance(
            tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING, pull_seconds=12.0, create_seconds=0.3
        )
    words = " ".join((await scene.instances()).split())
    assert "booting" in words
    assert "pull 12.0s, create 0.3s" in words


async def test_a_prediction_is_explained_from_its_creation_to_its_end(scene: Fleet) -> None:
    async with scene.resources.database.transaction() as tx:
        await predictions.interrupt(tx, scene.prediction.id, 1, True, reason="its node stopped reporting")
    page = await scene.explained()
    assert max(map(len, page.splitlines())) <= COLUMNS
    words = " ".join(page.split())
    for told in ("starting", "1 of 1 NVIDIA H200 busy", "starting → processing", "processing → starting", "gpu-1"):
        assert told in words, page
    assert "came to nothing: its node stopped reporting." in words


@dataclass(frozen=True)
class Millrace:
    settings: Settings

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "MILLRACE_DATA": str(self.settings.data),
            "MILLRACE_DATABASE_URL": self.settings.database_url,
            "MILLRACE_REDIS_URL": self.settings.redis_url,
        }
        command = [MILLRACE, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_an_operator_types_it(scene: Fleet, settings: Settings) -> None:
    millrace, model = Millrace(settings), scene.runnable.model
    for command, said in {
        ("nodes", "label", "gpu-1", "zone=a", "disk="): "The labels of gpu-1 are set.\n",
        ("nodes",): "node ",
        ("instances", "--ended", "1"): "id ",
        ("explain", scene.prediction.id): f"{scene.prediction.id}  processing",
        ("place", model, "--label", "zone=a", "--pin"): f"{model}:{scene.runnable.version_id[:12]} runs on nodes with",
    }.items():
        done = millrace(*command)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(said), done.stdout


async def test_what_was_done_is_said(scene: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    model = scene.runnable.model
    for work, said in (
        (nodes.cordon("gpu-1"), "gpu-1 gets no new containers; those there stay.\n"),
        (nodes.drain("gpu-1", "90"), "gpu-1 gets no new containers, and is empty within 90 s"),
        (nodes.uncordon("gpu-1"), "gpu-1 gets new containers again.\n"),
        (nodes.share("gpu-1", "on"), "Models that fit together may share the GPUs of gpu-1.\n"),
        (nodes.tell("gpu-1"), "when (UTC)"),
        (instances.tell(scene.instance_id[-8:]), f"Instance {scene.instance_id} of {model}, on gpu-1"),
        (instances.drain(scene.instance_id, "5", ""), f"Instance {scene.instance_id} of {model} takes"),
        (
            placing.place(model, "yes", "", "zone=a"),
            f"{model}:{scene.runnable.version_id[:12]} runs on nodes with zone=a",
        ),
        (placing.place(model, "", ""), f"{model}:{scene.runnable.version_id[:12]} runs on nodes with zone=a"),
    ):
        await work(scene.resources)
        assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (lambda: nodes.cordon("nowhere"), "There is no node nowhere."),
        (lambda: nodes.tell("nowhere"), "Nothing is told of a node nowhere"),
        (lambda: nodes.label("gpu-1", "zone"), "'zone' is no label"),
        (lambda: instances.logs("nothing"), "There is no instance nothing."),
        (lambda: instances.logs("0"), "More than one instance"),
        (lambda: explain.explain("nothing"), "There is no prediction nothing."),
        (lambda: placing.place("model", "", ""), "'model' is no model"),
        (lambda: placing.place("nobody/model", "", ""), "There is no account nobody."),
    ],
)
async def test_what_cannot_be_is_said_in_a_sentence(scene: Fleet, work: Callable[[], Work], sentence: str) -> None:
    async with scene.resources.database.transaction() as tx:
        await add_instance(tx, scene.busy, scene.runnable)
    with pytest.raises(Refusal, match=sentence):
        await work()(scene.resources)


async def test_a_node_that_was_never_there_and_one_that_has_not_reported_lately_differ(scene: Fleet) -> None:
    async with scene.resources.database.transaction() as tx:
        past = update(Node).where(Node.name == "gpu-2").values(lease_expires_at=scene.busy.created_at)
        await tx.execute(past)
    assert "late" in (await scene.nodes())
    async with scene.resources.database.transaction() as tx:
        await fleet.declare_lost(tx)
    page = await scene.nodes()
    assert "lost" in page
    assert not [line for line in page.splitlines() if line.startswith("gpu-2") and "H200" in line], "nobody knows"


async def test_what_is_gone_tells_when_it_went_and_why_and_leaves_no_more(scene: Fleet) -> None:
    async with scene.resources.database.transaction() as tx:
        await predictions.finish(tx, scene.prediction.id, 1, Outcome(PredictionStatus.SUCCEEDED, micros=1))
        await fleet.unwant(tx, scene.instance_id, "Idle for 300 s.")
        await fleet.move_instance(tx, scene.instance_id, InstanceStatus.READY, InstanceStatus.DRAINING)
        await fleet.move_instance(tx, scene.instance_id, InstanceStatus.DRAINING, InstanceStatus.STOPPED)
    async with scene.resources.database.autocommit() as tx:
        words = " ".join(shown(instances.page(await reports.instances(tx, 3600.0))).split())
    assert " ago" in words
    assert "Idle for 300 s." in words
    assert "leaves:" not in words
