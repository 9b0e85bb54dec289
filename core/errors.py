"""Everything that may go wrong on purpose.

    MillraceError                  status code       what the caller can do
    ├── BadRequest                 400               repair the request
    │   └── ValidationFailed       400               repair what `errors` points to
    ├── Unauthenticated            401               send a valid token
    ├── PaymentRequired            402               pay, or have the limit raised
    ├── Forbidden                  403               use a token with that permission
    ├── NotFound                   404               check the name; invisible things are not found either
    ├── Conflict                   409               look at the current state first
    ├── TooLarge                   413               send less
    ├── UnsupportedMediaType       415               send JSON
    ├── Invalid                    422               repair the named fields
    │   └── InvalidInput           422               the same, for a prediction's input
    ├── TooManyRequests            429               wait for `retry_after` seconds
    ├── Unavailable                503               try again
    └── StaleWrite                 409               nothing: somebody else has ended this already

A docstring is the default message; `detail` is always one string, since Swift and Go decode nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: More help nobody, and one body may hold a hundred thousand mistakes.
_MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class InvalidField:
    """One field that fails its schema; `field` is empty for the root, else like `input.seed`."""

    type: str
    field: str
    description: str

    def line(self) -> str:
        return f"- {self.field}: {self.description}\n" if self.field else f"- {self.description}\n"


class MillraceError(Exception):
    """Something went wrong."""

    status = 500
    code = "internal_error"
    title = "Internal server error"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.__doc__ or self.title)

    @property
    def detail(self) -> str:
        return str(self)

    @property
    def members(self) -> dict[str, Any]:
        """What the answer says beside status, title and detail."""
        return {}

    @property
    def headers(self) -> dict[str, str]:
        return {}


class BadRequest(MillraceError):
    """The request could not be read."""

    status, code, title = 400, "bad_request", "Bad request"


class ValidationFailed(BadRequest):
    """A field of a Model or a Deployment names something that does not exist, or does not go together."""

    code, title = "validation_failed", "Validation failed"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"- {problem}\n")
        self.field = field

    @property
    def members(self) -> dict[str, Any]:
        return {"errors": [{"pointer": f"/{self.field}", "detail": self.detail}]}


class Unauthenticated(MillraceError):
    """You did not pass a valid authentication token: send the header `Authorization: Bearer <token>`."""

    status, code, title = 401, "unauthenticated", "Unauthenticated"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class PaymentRequired(MillraceError):
    """You have insufficient credit to run this: what the account may spend is spent, or held for what runs. Add credit,
    or ask the administrator of this server to raise the limit."""

    status, code, title = 402, "insufficient_credit", "Insufficient credit"


class Forbidden(MillraceError):
    """This token may not do that."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(MillraceError):
    """The requested resource could not be found."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(MillraceError):
    """The resource is in a state that does not allow this."""

    status, code, title = 409, "conflict", "Conflict"

    @property
    def headers(self) -> dict[str, str]:
        # Python 2.x takes a 409 for a lock and tries twice more.
        return {"x-should-retry": "false"}


class StaleWrite(Conflict):
    """Somebody else has ended this already; the late write changed nothing."""

    code = "stale_write"


class TooLarge(MillraceError):
    """The request is larger than this server accepts."""

    status, code, title = 413, "too_large", "Payload too large"


class UnsupportedMediaType(MillraceError):
    """Send the body as application/json."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Invalid(MillraceError):
    """The request is not valid."""

    status, code, title = 422, "invalid", "Validation failed"


class InvalidVersion(Invalid):
    """The specified version does not exist, or you do not have permission to run it."""

    code, title = "invalid_version", "Invalid version or not permitted"


class InvalidInput(Invalid):
    """The input does not fit the schema of the Version."""

    code, title = "invalid_input", "Input validation failed"

    def __init__(self, fields: Sequence[InvalidField]) -> None:
        self.fields = fields[:_MOST_FIELDS]
        super().__init__("".join(field.line() for field in self.fields))

    @property
    def members(self) -> dict[str, Any]:
        return {"invalid_fields": [asdict(field) for field in self.fields]}


class TooManyRequests(MillraceError):
    """The account calls more often than it may. `retry_after`: whole seconds."""

    status, code, title = 429, "too_many_requests", "Request was throttled"

    def __init__(self, what: str, retry_after: int) -> None:
        super().__init__(f"Request was throttled: your rate limit for {what} resets in ~{retry_after}s.")
        self.retry_after = retry_after

    @property
    def members(self) -> dict[str, Any]:
        return {"retry_after": self.retry_after}

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class Unavailable(MillraceError):
    """Millrace cannot answer right now; try again in a moment."""

    status, code, title = 503, "unavailable", "Service unavailable"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}
