"""Accounts, Models and predictions for tests of the api, and what a node does with them, all through the verbs."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, update

from core import catalog, files, fleet, predictions, streams
from core.files import NewFile
from core.fleet import NodeReport
from core.hardware import CPU
from core.ids import new_id
from core.lifecycle import InstanceStatus, PredictionStatus
from core.people import accounts, tokens
from core.predictions import Outcome
from core.resources import Resources
from core.tables import Prediction

TEXT = {"title": "Output", "type": "string"}
CHUNKS = {
    "title": "Output",
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
}
FILES = {
    "title": "Output",
    "type": "array",
    "items": {"type": "string", "format": "uri"},
    "x-cog-array-type": "iterator",
}
INPUTS = {
    "type": "object",
    "title": "Input",
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "title": "Text", "x-order": 0},
        "count": {"type": "integer", "title": "Count", "minimum": 1, "maximum": 10, "default": 2, "x-order": 1},
        "size": {"allOf": [{"$ref": "#/components/schemas/size"}], "default": "small", "x-order": 2},
        "image": {"type": "string", "format": "uri", "title": "Image", "x-order": 3},
        "anything": {"title": "Anything", "x-order": 4},
        "scale": {"type": "number", "title": "Scale", "x-order": 5},
        "steps": {"type": "integer", "title": "Steps", "x-order": 6},
        "key": {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True, "x-order": 7},
    },
}


def openapi(output: dict[str, Any]) -> dict[str, Any]:
    """The document of a Cog container with these inputs and that output."""
    sizes = {"title": "size", "type": "string", "enum": ["small", "large"], "description": "An enumeration."}
    schemas = {"Input": INPUTS, "Output": output, "size": sizes}
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {"schemas": schemas},
    }


@dataclass(frozen=True, slots=True)
class Caller:
    id: str
    username: str
    token: str
    webhook_secret: str


@dataclass(frozen=True, slots=True)
class Published:
    """`model` is `owner/name`."""

    model: str
    version: str
    target: str


class Scene:
    """Everything made here has a name of its own, so that no test sees another's."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._database = resources.database

    async def caller(self) -> Caller:
        token = tokens.new_token()
        async with self._database.transaction() as tx:
            row = await accounts.ensure(tx, f"user-{new_id()}", "Some User")
            await tokens.add(tx, row.id, token, "test")
        return Caller(row.id, row.username, token, row.webhook_secret)

    async def token(self, caller: Caller) -> str:
        """Another token of the same account."""
        async with self._database.transaction() as tx:
            _, token = await tokens.create(tx, new_id(), caller.id, "another")
        return token

    async def publish(
        self, owner: Caller, output: dict[str, Any] | None = TEXT, visibility: str = "public"
    ) -> Published:
        """A Model with one Version; without `output` it is not prepared yet."""
        async with self._database.transaction() as tx:
            await catalog.put_hardware(tx, CPU.sku, CPU.name, CPU.price_nanos_per_second)
            name = f"model-{new_id()}"
            model = await catalog.ensure_model(
                tx, owner.id, name, CPU.sku, visibility=visibility, description="A model"
            )
            version = await self._add_version(tx, model.id, output)
        return Published(f"{owner.username}/{name}", version, catalog.target(version, CPU.sku))

    async def add_version(self, owner: Caller, published: Published) -> str:
        async with self._database.transaction() as tx:
            model = await catalog.get_model(tx, owner.id, *published.model.split("/"))
            return await self._add_version(tx, model.id, TEXT)

    async def _add_version(self, tx: Any, model_id: str, output: dict[str, Any] | None) -> str:
        version = await catalog.publish(
            tx,
            model_id,
            "bundle",
            new_id(),
            config={},
            cog_version="0.23.1",
            slots=1,
            timeout_seconds=60,
            setup_timeout_seconds=60,
        )
        if output is not None:
            await catalog.prepared(
                tx, version, openapi_schema=openapi(output), cog_version="0.23.1", slots=1, config={}
            )
        return version

    # --- what a node does ---

    async def start(self, prediction_id: str) -> Row:
        """Takes it on an Instance of its own."""
        boot_id = new_id()
        async with self._database.transaction() as tx:
            prediction = await predictions.find(tx, prediction_id)
            node = await fleet.register_node(tx, NodeReport(f"node-{boot_id}", [], ["bundle"], 1), boot_id, 3600)
            instance_id = await fleet.assign(
                tx,
                node_id=node.id,
                target=prediction.target,
                version_id=prediction.version_id,
                hardware_sku=prediction.hardware_sku,
                slots=1,
                gpu_uuids=(),
            )
            await fleet.move_instance(tx, instance_id, InstanceStatus.PENDING, InstanceStatus.STARTING)
            await fleet.move_instance(tx, instance_id, InstanceStatus.STARTING, InstanceStatus.READY)
        async with self._database.transaction() as tx:
            row = await predictions.start(tx, prediction_id, instance_id, boot_id)
        assert row is not None, f"{prediction_id} could not be started"
        return row

    async def say(self, prediction_id: str, *chunks: Any) -> None:
        await streams.extend(self._resources.redis, prediction_id, chunks)

    async def write(self, row: Row, output: Any, logs: str) -> None:
        async with self._database.autocommit() as tx:
            assert await predictions.append(tx, row.id, row.attempt, output, logs)

    async def asked_to_cancel(self, row: Row) -> list[str]:
        async with self._database.autocommit() as tx:
            return await predictions.cancel_requested(tx, row.node_boot_id)

    async def finish(self, row: Row, output: Any = None, micros: int = 250_000, **outcome: Any) -> Row:
        outcome = Outcome(
            outcome.pop("status", PredictionStatus.SUCCEEDED),
            output=output,
            micros=micros,
            metrics={"predict_time": micros / 1e6},
            **outcome,
        )
        async with self._database.transaction() as tx:
            return await predictions.finish(tx, row.id, row.attempt, outcome)

    async def finish_silently(self, row: Row, output: Any) -> None:
        """Ends it as if Redis had been away just then: nobody is told."""
        ended = {"status": PredictionStatus.SUCCEEDED, "output": output, "completed_at": func.clock_timestamp()}
        async with self._database.autocommit() as tx:
            await tx.execute(update(Prediction).where(Prediction.id == row.id).values(**ended))

    async def output_file(
        self, row: Row, content: bytes, name: str = "output.png", content_type: str = "image/png"
    ) -> tuple[str, str]:
        """A file that the model wrote: its id, and how it stands in the row."""

        async def chunks() -> Any:
            yield content

        new = NewFile(row.account_id, files.OUTPUT, name, content_type, row.id)
        values = await files.store(self._resources.files, new, chunks(), 1 << 20)
        async with self._database.transaction() as tx:
            await files.record(tx, values)
        return values["id"], files.reference(values["id"], name)
