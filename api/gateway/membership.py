"""Lets machines in and keeps them in: certificates for join tokens, the next ones for those that run out, settings."""

from typing import Any

from sqlalchemy import Row

from core.clock import now
from core.database import Transaction
from core.errors import Invalid, MillraceError
from core.joining import members
from core.joining.certificates import NODE_LIFETIME, Authority
from core.joining.wire import Refused, Service, shared_settings
from core.log import get_logger
from core.resources import Resources

log = get_logger()


class Membership:
    """`told`: what a node must know of each server that it reaches through us."""

    def __init__(self, resources: Resources, authority: Authority, told: dict[Service, dict[str, Any]]) -> None:
        self._database = resources.database
        self._settings = resources.settings
        self._authority = authority
        self._told = told

    async def answer(self, member: Row | None, asked: dict[str, Any], address: str) -> dict[str, Any]:
        """What a machine gets that shows a certificate, or a join token. Raises `Refused`."""
        request = asked.get("request")
        try:
            async with self._database.transaction() as tx:
                if member is None:
                    certificate = await self._join(tx, asked, address)
                else:
                    certificate = await self._renew(tx, member, request) if request else None
        except MillraceError as error:
            log.warning("a node was not let in", address=address, reason=error.detail)
            raise Refused(error.detail, is_final=True) from None
        return {"certificate": certificate, **self._what_it_needs()}

    async def _join(self, tx: Transaction, asked: dict[str, Any], address: str) -> str:
        secret, name, request = (asked.get(field) for field in ("secret", "name", "request"))
        if not (isinstance(secret, str) and isinstance(name, str) and isinstance(request, str)):
            raise Invalid("A node joins by a join token, or shows the certificate that it was given; this has neither.")
        member = await members.join(tx, secret, name, address, now() + NODE_LIFETIME)
        certificate = self._authority.sign_node(request, member.id, name)
        log.info("a node has joined", node=name, address=address)
        return certificate

    async def _renew(self, tx: Transaction, member: Row, request: Any) -> str:
        certificate = self._authority.sign_node(str(request), member.id, member.name)
        await members.renew(tx, member.id, now() + NODE_LIFETIME)
        return certificate

    def _what_it_needs(self) -> dict[str, Any]:
        return {
            "settings": shared_settings(self._settings),
            "postgres": self._told[Service.POSTGRES],
            "redis": self._told[Service.REDIS],
            # Empty: through us.
            "files_url": "" if Service.FILES in self._told else self._settings.file_store_url,
        }
