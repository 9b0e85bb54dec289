"""The one shape of all that goes wrong, of which `core/errors.py` is the list."""

from pydantic import MISSING, BaseModel, Field


class InvalidField(BaseModel):
    """A field of the request that fails its schema."""

    type: str = Field(description="Which rule it breaks: `required`, `enum`, `number_lte`, `invalid_type`, ...")
    field: str = Field(description="Like `input.seed`; empty for the body itself.")
    description: str


class PointedError(BaseModel):
    """A field that names something that does not exist, or does not go together with another."""

    pointer: str = Field(description="Like `/hardware`.")
    detail: str


class Problem(BaseModel):
    """Why a request was not answered as asked: RFC 9457, as `application/problem+json`."""

    title: str = Field(description="What kind of problem it is; the same for all of its kind.")
    detail: str = Field(description="What happened, to what, and what to do about it; always one text.")
    status: int = Field(ge=400, le=599, description="The status code once more.")
    invalid_fields: list[InvalidField] | MISSING = Field(MISSING, description="Every field that fails, at once.")
    errors: list[PointedError] | MISSING = MISSING
    retry_after: int | MISSING = Field(MISSING, ge=0, description="Seconds to wait, as the header says too.")
