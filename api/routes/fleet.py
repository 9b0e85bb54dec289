"""Nodes and Instances, for admins of the server."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.access import needs
from api.dependencies import Caller, Reading
from api.gate import Route
from api.responses import Json
from api.schemas.fleet import InstanceList, NodeList
from api.whose import admin
from core.clock import rfc3339
from core.people.tokens import Scope
from core.reports import fleet
from core.reports.fleet import InstanceView, NodeView

router = APIRouter(tags=["fleet"], route_class=Route)

_OF_NODE = ("name", "is_cordoned", "labels", "shares_gpus", "artifact_kinds", "artifacts", "max_instances")
_OF_INSTANCE = (
    *("id", "model", "deployment", "node", "slots", "status", "reason", "is_wanted", "shares_gpu", "reserved_bytes"),
    *("peak_bytes", "pull_seconds", "create_seconds", "boot_seconds", "setup_seconds"),
)
_DAY = 24 * 3600.0


@router.get("/nodes", operation_id="nodes.list", response_model=NodeList)
@needs(Scope.ADMIN)
async def list_nodes(caller: Caller, tx: Reading) -> Json:
    """The machines of this server and what holds their GPUs, for its admins."""
    admin(caller)
    return Json({"results": [_node(view) for view in await fleet.nodes(tx)]})


@router.get("/instances", operation_id="instances.list", response_model=InstanceList)
@needs(Scope.ADMIN)
async def list_instances(
    caller: Caller,
    tx: Reading,
    ended_seconds: Annotated[float, Query(ge=0, le=_DAY, description="With those that ended within so many.")] = 0.0,
) -> Json:
    """The containers of this server and what they run, the oldest first, for its admins."""
    admin(caller)
    return Json({"results": [_instance(view) for view in await fleet.instances(tx, ended_seconds)]})


def _node(view: NodeView) -> dict[str, Any]:
    row = view.row
    return {
        **{name: getattr(row, name) for name in _OF_NODE},
        "state": view.state,
        "gpus": [{**gpu, "instances": [each.id for each in view.holding(gpu["uuid"])]} for gpu in row.gpus],
        "instances": len(view.instances),
        "drain_deadline_at": rfc3339(row.drain_deadline_at),
        "clock_offset_seconds": row.clock_offset_seconds,
        "reported_at": rfc3339(row.reported_at),
    }


def _instance(view: InstanceView) -> dict[str, Any]:
    row = view.row
    moments = ("drain_deadline_at", "created_at", "ready_at", "ended_at")
    return {
        **{name: getattr(row, name) for name in _OF_INSTANCE},
        **{name: rfc3339(getattr(row, name)) for name in moments},
        "version": row.version_id,
        "hardware": row.hardware_sku,
        "gpus": row.gpu_uuids,
        "idle_seconds": view.idle_seconds,
        "predictions": view.predictions,
    }
