"""What a container of a Version is to be, from its rows. Knows neither runtimes nor whether it is wanted."""

from collections.abc import Sequence

from sqlalchemy import Row

from core.schema import output_schema
from worker.cog import wants_files_inline
from worker.endpoint import Endpoint
from worker.runtimes.base import Artifact, ContainerSpec


def artifact_of(version: Row) -> Artifact:
    return Artifact(version.artifact_kind, version.artifact, version.config, version.openapi_schema or {})


def container_spec(
    version: Row, endpoint: Endpoint, *, slots: int, gpu_uuids: Sequence[str], instance_id: str = ""
) -> ContainerSpec:
    """Without an Instance where none is known yet."""
    inline = wants_files_inline(version.cog_version, output_schema(version.openapi_schema))
    return ContainerSpec(
        instance_id=instance_id,
        version_id=version.id,
        artifact=artifact_of(version),
        slots=slots,
        uploads_url=None if inline else endpoint.uploads_url,
        gpu_uuids=tuple(gpu_uuids),
        setup_timeout_seconds=version.setup_timeout_seconds,
        # Of a Model that is gone nobody owns what is left.
        owner=version.owner_id or version.id,
    )
