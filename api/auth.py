"""Who is calling, and what they may: `Authorization: Bearer <token>`, or `Token <token>` as some examples have it."""

from sqlalchemy import Row

from api.state import State
from core.errors import Forbidden, Unauthenticated
from core.people.tokens import Scope

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


def permit(caller: Row, scope: Scope) -> None:
    """Raises `Forbidden` where the caller's token lacks the scope."""
    if scope not in caller.scopes:
        raise Forbidden(f"This token lacks the scope `{scope}`: it has {', '.join(caller.scopes) or 'none'}.")
