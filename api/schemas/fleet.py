"""Nodes and Instances, as an admin of the server is shown them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from core.lifecycle import InstanceStatus


class NodeResponse(BaseModel):
    """A machine that runs containers."""

    name: str
    state: str = Field(description="`up`; `late`: its lease has just run out; `lost`, or `stopped` in order.")
    is_cordoned: bool = Field(description="It gets no new instances.")
    drain_deadline_at: datetime | None = Field(description="It is being emptied: what it runs may finish until then.")
    labels: dict[str, str]
    shares_gpus: bool = Field(description="Whether instances whose memory fits together may share a GPU there.")
    gpus: list[dict[str, Any]] = Field(
        description="Its devices: `uuid`, `name`, `memory_bytes`, `healthy`, `reason`, what else the node reports of "
        "them, and `instances`, the ids of those that hold it."
    )
    artifact_kinds: list[str]
    artifacts: list[str] = Field(description="Images and bundles that are there already.")
    instances: int = Field(description="How many containers it has.")
    max_instances: int
    clock_offset_seconds: float | None = Field(description="By how much its clock is ahead of the database's.")
    reported_at: datetime | None


class InstanceResponse(BaseModel):
    """One container of a Version."""

    id: str
    model: str = Field(description="`owner/name`.")
    version: str
    deployment: str | None = Field(description="`owner/name` of the deployment that it belongs to.")
    hardware: str
    node: str
    gpus: list[str] = Field(description="UUIDs of those that it holds.")
    slots: int = Field(description="How many predictions it runs at once.")
    status: InstanceStatus
    reason: str | None = Field(description="Why it is leaving, or has failed.")
    is_wanted: bool
    drain_deadline_at: datetime | None
    shares_gpu: bool
    reserved_bytes: int | None = Field(description="Memory of each of its GPUs that is its own, where it shares them.")
    peak_bytes: int | None = Field(description="The most it was seen to use on one of them.")
    pull_seconds: float | None
    create_seconds: float | None
    boot_seconds: float | None
    setup_seconds: float | None
    idle_seconds: float | None = Field(description="Since it last worked; null: it works, or is not ready.")
    predictions: list[str] = Field(description="Ids of what it runs now.")
    created_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None


class NodeList(BaseModel):
    results: list[NodeResponse]


class InstanceList(BaseModel):
    results: list[InstanceResponse]
