"""Who is calling: `Authorization: Bearer <token>`, or `Token <token>` as some official examples have it."""

from sqlalchemy import Row

from api.state import State
from core.errors import Unauthenticated

_SCHEMES = ("bearer", "token")
_MISSING = "You did not pass an authentication token. Send the header `Authorization: Bearer <token>`."
_WRONG = "You did not pass a valid authentication token: it is unknown, expired or revoked."


async def authenticate(state: State, header: str | None) -> Row:
    """The account of a valid token. Raises `Unauthenticated`."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() not in _SCHEMES or not token.strip():
        raise Unauthenticated(_MISSING)
    account = await state.account_of(token.strip())
    if account is None:
        raise Unauthenticated(_WRONG)
    return account
