"""One server-sent event of a prediction's stream."""

from typing import Literal

from pydantic import BaseModel, Field


class StreamEvent(BaseModel):
    """One event; the last one is `done`."""

    event: Literal["output", "error", "done"]
    id: str = Field(description="Send the last one as `Last-Event-ID` to go on from there.")
    data: str = Field(
        description="`output`: a chunk of text, or a file as URL or data URI, or other output as JSON. `error`: "
        "JSON with a `detail`. `done`: JSON, empty or with a `reason`, `canceled` or `error`."
    )
