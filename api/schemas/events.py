"""What happened to a prediction, as it is shown."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class TimelineEntry(BaseModel):
    """One thing that happened, to the prediction or to what it waited for."""

    model_config = ConfigDict(populate_by_name=True)

    at: datetime
    subject: str = Field(
        description="What changed: `prediction`, `queue` (all that waits with it), or `instance:<id>`, a container."
    )
    actor: str = Field(
        description="Who made it so: `account:<username>`, `scheduler`, or `node`; admins of the server are told which "
        "node, as `node:<name>`."
    )
    was: str | None = Field(alias="from", description="The state that was left; null where none was.")
    becomes: str | None = Field(alias="to", description="The state that was entered; null where none was.")
    reason: str | None = Field(description="A sentence for people.")


class Timeline(BaseModel):
    """All that is known of the path of a prediction, the oldest first. Some of it is forgotten after 30 days."""

    results: list[TimelineEntry]
