"""Checks before anything changes."""

from __future__ import annotations

from mgmtnode.contracts.identity import ACCOUNT_ONLY, ACCOUNT_PROTECTED, PASSWORD_WEAK, TOO_MANY
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller
from mgmtnode.schema import Resource
from services.identity.repository.accounts import count_owned


def own(tx: Tx, caller: Caller, kind: Resource, uuid: str) -> str:
    """The account that owns the resource. What belongs to others is not there: raises core.not-found."""
    owner = resource.owner_of(tx, uuid) if resource.type_of(tx, uuid) == kind.type else ""
    if not owner or not (caller.admin or owner == caller.account_uuid):
        raise NOT_FOUND.error(f"there is no {kind.type} {uuid}", resource=uuid)
    return owner


def account_itself(caller: Caller) -> None:
    """A user who could hand out rights could hand itself all of them. Raises account.only."""
    if caller.user_uuid is not None:
        raise ACCOUNT_ONLY.error()


def strong(password: str, shortest: int) -> None:
    """Raises account.password-weak."""
    if len(password) < shortest:
        raise PASSWORD_WEAK.error(f"a password needs at least {shortest} characters", shortest=shortest)


def room_for(tx: Tx, account_uuid: str, kind: Resource, limit: int) -> None:
    """Raises account.too-many."""
    if count_owned(tx, account_uuid, kind.type) >= limit:
        raise TOO_MANY.error(
            f"an account has at most {limit} {kind.plural}", resource=account_uuid, limit=limit
        )


def removable(caller: Caller, uuid: str) -> None:
    """Nobody locks himself out, nor everybody. Raises account.protected."""
    if uuid == SYSTEM_ACCOUNT:
        raise ACCOUNT_PROTECTED.error("the account admin is needed", resource=uuid)
    if uuid == caller.account_uuid:
        raise ACCOUNT_PROTECTED.error("an account cannot do this to itself", resource=uuid)
