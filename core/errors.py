"""Everything that may go wrong on purpose.

    MillraceError                  status code       what the caller can do
    ├── BadRequest                 400               repair the request
    ├── Unauthenticated            401               send a valid token
    ├── Forbidden                  403               use a token with that permission
    ├── NotFound                   404               check the name; invisible things are not found either
    ├── Conflict                   409               look at the current state first
    ├── TooLarge                   413               send less
    ├── UnsupportedMediaType       415               send JSON
    ├── Invalid                    422               repair the named fields
    │   └── InvalidInput           422               the same, for a prediction's input
    ├── Unavailable                503               try again
    └── StaleWrite                 409               nothing: somebody else has ended this already

A docstring is the default message; `detail` is always one string, since Swift and Go decode nothing else.
"""

from dataclasses import dataclass


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


class BadRequest(MillraceError):
    """The request could not be read."""

    status, code, title = 400, "bad_request", "Bad request"


class Unauthenticated(MillraceError):
    """You did not pass a valid authentication token: send the header `Authorization: Bearer <token>`."""

    status, code, title = 401, "unauthenticated", "Unauthenticated"


class Forbidden(MillraceError):
    """This token may not do that."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(MillraceError):
    """The requested resource could not be found."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(MillraceError):
    """The resource is in a state that does not allow this."""

    status, code, title = 409, "conflict", "Conflict"


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

    def __init__(self, fields: list[InvalidField]) -> None:
        super().__init__("".join(field.line() for field in fields))
        self.fields = fields


class Unavailable(MillraceError):
    """Millrace cannot answer right now; try again in a moment."""

    status, code, title = 503, "unavailable", "Service unavailable"
