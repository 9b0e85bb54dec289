"""The end of an Account. Nobody speaks for it any more and nothing of it runs. Its row stays, as does what it used,
paid and owes, under the name it had, which nobody else is given.

Its data go as all data do: uploads at once, those of its predictions after their retention.
"""

from sqlalchemy import Row, func, select, update

from core import deployments, files, unstarted
from core.database import Transaction, one_of, seconds_from_now
from core.endings import TABLE
from core.errors import Conflict, NotFound
from core.people import audit, logins, ownership, tokens
from core.people.accounts import PUBLISHER
from core.redis import SCHEDULER_BELL, ring
from core.tables import Account, Deployment, Model

#: So long what is left is looked for: a scheduler that was away finds it when it is back.
_ECHO_SECONDS = 7 * 24 * 3600.0
_GOES_ON = (TABLE.c.completed_at.is_(None), TABLE.c.cancel_requested_at.is_(None))


async def delete(tx: Transaction, account_id: str) -> Row:
    """The Account with its `deleted_at`; one that is deleted already stays as it is. Raises `NotFound` or `Conflict`.

    Its tokens and logins let nobody in; what waits is canceled, what runs is asked to stop, and charged; Deployments
    are disabled; Models become private. No card of it is charged by itself any more.
    """
    account = await _lock(tx, account_id)
    if account.deleted_at is not None:
        return account
    await _require_dispensable(tx, account)
    deleted = update(Account).where(Account.id == account_id).values(deleted_at=func.now())
    row = await tx.one(deleted.returning(Account))
    count = await tokens.revoke_all(tx, account_id)
    await _disable_logins(tx, account_id)
    await _disable_deployments(tx, account)
    await _hide_models(tx, account_id)
    await files.expire_uploads(tx, account_id)
    await unstarted.cancel(tx, TABLE.c.account_id == account_id, *_GOES_ON)
    before = {"username": account.username, "type": account.type, "is_admin": account.is_admin, "valid_tokens": count}
    await audit.record(tx, "account.delete", f"account:{account_id}", account_id=account_id, before=before)
    tx.after_commit(ring, SCHEDULER_BELL)
    return row


async def _lock(tx: Transaction, account_id: str) -> Row:
    # All admins in one order, so that the last two do not each find the other still there.
    admins = select(Account.id).where(Account.is_admin).order_by(Account.id)
    await tx.execute(admins.with_for_update(key_share=True))
    row = await tx.first(select(Account).where(Account.id == account_id).with_for_update(key_share=True))
    if row is None:
        raise NotFound("The requested account could not be found.")
    return row


async def _require_dispensable(tx: Transaction, account: Row) -> None:
    if account.username == PUBLISHER:
        raise Conflict(f"{PUBLISHER} publishes the models that come along: it cannot be deleted.")
    others = select(Account.id).where(Account.is_admin, Account.deleted_at.is_(None), Account.id != account.id)
    if account.is_admin and await tx.first(others.limit(1)) is None:
        raise Conflict(f"{account.username} is the only admin of this server: make another one before you delete it.")


async def _disable_logins(tx: Transaction, account_id: str) -> None:
    for login in await logins.list_all(tx, account_id):
        if login.disabled_at is None:
            await logins.disable(tx, login.id)


async def _disable_deployments(tx: Transaction, account: Row) -> None:
    named = select(Deployment.name).where(Deployment.owner_id == account.id).order_by(Deployment.name)
    for row in await tx.all(named):
        none = {"min_instances": 0, "max_instances": 0}
        await deployments.change(tx, account.id, account.username, row.name, none)


async def _hide_models(tx: Transaction, account_id: str) -> None:
    public = select(Model.id).where(Model.owner_id == account_id, Model.visibility == "public").order_by(Model.id)
    for row in await tx.all(public):
        await ownership.change_model(tx, row.id, {"visibility": "private"})


async def cancel_left(tx: Transaction) -> int:
    """Ends what `delete` did not: what did not fit into its transaction, or was on its way in. How many there were."""
    closed = select(Account.id).where(Account.deleted_at > seconds_from_now(-_ECHO_SECONDS))
    ids = [row.id for row in await tx.all(closed)]
    return await unstarted.cancel(tx, one_of(TABLE.c.account_id, ids), *_GOES_ON) if ids else 0
