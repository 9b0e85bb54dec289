"""Bodies of requests about Deployments, and the Deployment itself as it is shown."""

from datetime import datetime
from typing import Annotated

from pydantic import MISSING, BaseModel, ConfigDict, Field

from api.schemas.account import AccountResponse
from api.schemas.common import WHOLE
from api.schemas.models import Name, Sku

ModelName = Annotated[str, Field(pattern=r"^[^/:\s]+/[^/:\s]+$", max_length=300, description="`owner/name`.")]
VersionId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="One of that model.")]
Minimum = Annotated[int, Field(ge=0, le=5, description="So many instances are kept warm."), WHOLE]
Maximum = Annotated[
    int,
    Field(ge=0, le=20, description="Never more instances. 0 disables it: what is under way is canceled."),
    WHOLE,
]


class DeploymentRequest(BaseModel):
    """A new Deployment with its first Release."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    model: ModelName
    version: VersionId
    hardware: Sku
    min_instances: Minimum
    max_instances: Maximum


class DeploymentChanges(BaseModel):
    """What is left out stays as it is. Whatever changes makes the next Release."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionId | MISSING = MISSING
    hardware: Sku | MISSING = MISSING
    min_instances: Minimum | MISSING = MISSING
    max_instances: Maximum | MISSING = MISSING
    model: ModelName | MISSING = Field(MISSING, description="The one it has: it cannot be changed.")


class Scaling(BaseModel):
    """How many instances there may be."""

    min_instances: int
    max_instances: int


class ReleaseConfiguration(Scaling):
    """What a Release sets."""

    hardware: str = Field(description="SKU.")
    scaling: Scaling = Field(description="The same once more, where the Swift client looks for it.")


class ReleaseResponse(BaseModel):
    """One numbered configuration of a Deployment. It never changes."""

    number: int = Field(ge=1)
    model: str = Field(description="`owner/name`.")
    version: str = Field(description="Id of the Version.")
    created_at: datetime
    created_by: AccountResponse
    configuration: ReleaseConfiguration


class DeploymentResponse(BaseModel):
    """A model with an address, hardware and a number of instances of its own."""

    owner: str
    name: str
    current_release: ReleaseResponse
