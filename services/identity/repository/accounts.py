"""The only SQL on accounts, users, policies and passwords."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mgmtnode.contracts.identity import (
    ACCOUNT,
    POLICY,
    USER,
    USER_NAME_TAKEN,
    Account,
    AccountState,
    AccountType,
    Policy,
    PolicyStatement,
    User,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource as core
from mgmtnode.db.tables import share
from services.identity.models import account, api_key, password, policy, quota, user, user_policy

if TYPE_CHECKING:
    from mgmtnode.query.engine import Query

# Written once: building a statement costs more than running it, and each node that boots runs these.
THIS = select(account.c.uuid).where(account.c.uuid == bindparam("which"))
LOCK = THIS.with_for_update()
TYPE = select(account.c.type).where(account.c.uuid == bindparam("which"))
ALL = select(account.c.uuid).order_by(account.c.uuid)
NOBODY = "00000000-0000-0000-0000-000000000000"


class Login(msgspec.Struct, frozen=True):
    """Whom a login names, and the stored hash, empty if there is no password."""

    account_uuid: str
    account_name: str
    type: AccountType
    state: AccountState
    user_uuid: str | None
    hash: str


class AccountRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Account:
        found: Account = self._query.get(tx, ACCOUNT, uuid)
        return found

    def insert(self, tx: Tx, uuid: str, name: str, description: str, kind: AccountType) -> Account:
        """An account owns itself, so that its own tenants see it."""
        resource.create(tx, ACCOUNT, uuid, name, account=uuid, description=description)
        tx.execute(insert(account).values(uuid=uuid, type=kind, state=AccountState.ENABLED))
        return self.get(tx, uuid)

    def exists(self, tx: Tx, uuid: str) -> bool:
        return tx.execute(THIS, {"which": uuid}).first() is not None

    def type_of(self, tx: Tx, uuid: str) -> AccountType | None:
        found = tx.execute(TYPE, {"which": uuid}).scalar()
        return AccountType(found) if found else None

    def lock(self, tx: Tx, uuid: str) -> None:
        """Serialises writers of what belongs to the account."""
        tx.execute(LOCK, {"which": uuid})

    def all(self, tx: Tx) -> list[str]:
        return [str(r[0]) for r in tx.execute(ALL)]

    def set_state(self, tx: Tx, uuid: str, state: AccountState) -> Account:
        tx.execute(update(account).where(account.c.uuid == uuid).values(state=state))
        resource.change(tx, ACCOUNT, uuid)
        return self.get(tx, uuid)

    def owned(self, tx: Tx, uuid: str, types: Collection[str], limit: int) -> list[tuple[str, str]]:
        """(type, uuid) of what the account owns, of the types named, newest first."""
        mine = core.c.account_uuid == uuid
        statement = select(core.c.type, core.c.uuid).where(mine, core.c.type.in_(sorted(types)))
        rows = tx.execute(statement.order_by(core.c.created_at.desc(), core.c.uuid).limit(limit))
        return [(str(r[0]), str(r[1])) for r in rows]

    def owned_but(self, tx: Tx, uuid: str, types: Collection[str]) -> dict[str, int]:
        """How much of other types than those named the account owns: type → count."""
        mine = core.c.account_uuid == uuid
        statement = select(core.c.type, func.count()).where(mine, core.c.type.not_in(sorted(types)))
        return {str(r[0]): int(r[1]) for r in tx.execute(statement.group_by(core.c.type))}

    def delete(self, tx: Tx, uuid: str) -> None:
        """The account and all of this service that belongs to it."""
        mine = select(core.c.uuid).where(core.c.account_uuid == uuid)
        tx.execute(delete(user_policy).where(user_policy.c.user_uuid.in_(mine)))
        for table in (api_key, user, policy, quota, account):
            tx.execute(delete(table).where(table.c.uuid.in_(mine)))
        tx.execute(delete(core).where(core.c.account_uuid == uuid))
        tx.execute(delete(share).where(share.c.account_uuid == uuid))

    def find_login(self, tx: Tx, name: str, user_name: str | None) -> Login | None:
        """The account, or its user, that is called so."""
        named = select(core.c.uuid, core.c.name, account.c.type, account.c.state).join(
            account, account.c.uuid == core.c.uuid
        )
        row = tx.execute(named.where(core.c.type == ACCOUNT.type, core.c.unique_name == name)).first()
        owner, user_uuid = row.uuid if row else NOBODY, None
        if user_name is not None:  # asked also for an account that is not there: it must take as long
            mine = user.c.login == _login(owner, user_name)
            user_uuid = tx.execute(select(user.c.uuid).where(mine)).scalar()
        hashed = self.password(tx, user_uuid or owner)
        if row is None or (user_name is not None and user_uuid is None):
            return None
        return Login(row.uuid, row.name, AccountType(row.type), AccountState(row.state), user_uuid, hashed)

    def password(self, tx: Tx, uuid: str) -> str:
        """The stored hash, or an empty text."""
        return str(tx.execute(select(password.c.hash).where(password.c.uuid == uuid)).scalar() or "")

    def set_password(self, tx: Tx, uuid: str, hashed: str) -> None:
        values = {"hash": hashed, "changed_at": tx.now}
        if not tx.execute(update(password).where(password.c.uuid == uuid).values(values)).rowcount:
            tx.execute(insert(password).values(values | {"uuid": uuid}))


class UserRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> User:
        found: User = self._query.get(tx, USER, uuid)
        return found

    def insert(self, tx: Tx, uuid: str, name: str, description: str, account_uuid: str) -> User:
        """Raises user.name-taken."""
        resource.create(tx, USER, uuid, name, account=account_uuid, description=description)
        _or_taken(tx, insert(user).values(uuid=uuid, login=_login(account_uuid, name)), name)
        return self.get(tx, uuid)

    def change(self, tx: Tx, uuid: str, values: dict[str, Any]) -> User:
        """Raises user.name-taken."""
        if "name" in values:
            login = _login(resource.owner_of(tx, uuid), values["name"])
            _or_taken(tx, update(user).where(user.c.uuid == uuid).values(login=login), values["name"])
        resource.change(tx, USER, uuid, **values)
        return self.get(tx, uuid)

    def attach(self, tx: Tx, uuid: str, policy_uuid: str) -> User:
        held = select(policy.c.uuid).where(policy.c.uuid == policy_uuid).with_for_update(read=True)
        tx.execute(held)  # else a deletion of the policy could miss this row
        self._remove_link(tx, uuid, policy_uuid)
        tx.execute(insert(user_policy).values(user_uuid=uuid, policy_uuid=policy_uuid))
        resource.change(tx, USER, uuid)
        return self.get(tx, uuid)

    def detach(self, tx: Tx, uuid: str, policy_uuid: str) -> User:
        self._remove_link(tx, uuid, policy_uuid)
        resource.change(tx, USER, uuid)
        return self.get(tx, uuid)

    def keys(self, tx: Tx, uuid: str) -> list[str]:
        return [str(r[0]) for r in tx.execute(select(api_key.c.uuid).where(api_key.c.user_uuid == uuid))]

    def delete(self, tx: Tx, uuid: str) -> None:
        """The user; its password and sessions go with it. Delete its keys first."""
        tx.execute(delete(user_policy).where(user_policy.c.user_uuid == uuid))
        tx.execute(delete(user).where(user.c.uuid == uuid))
        resource.remove(tx, uuid)

    def _remove_link(self, tx: Tx, uuid: str, policy_uuid: str) -> None:
        pair = (user_policy.c.user_uuid == uuid, user_policy.c.policy_uuid == policy_uuid)
        tx.execute(delete(user_policy).where(*pair))


class PolicyRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Policy:
        found: Policy = self._query.get(tx, POLICY, uuid)
        return found

    def insert(
        self,
        tx: Tx,
        uuid: str,
        name: str,
        *,
        description: str,
        account: str,
        statements: Sequence[PolicyStatement],
    ) -> Policy:
        resource.create(tx, POLICY, uuid, name, account=account, description=description)
        tx.execute(insert(policy).values(uuid=uuid, statements=list(statements)))
        return self.get(tx, uuid)

    def change(self, tx: Tx, uuid: str, values: dict[str, Any]) -> Policy:
        if "statements" in values:
            statement = update(policy).where(policy.c.uuid == uuid)
            tx.execute(statement.values(statements=values["statements"]))
        resource.change(tx, POLICY, uuid, **values)
        return self.get(tx, uuid)

    def delete(self, tx: Tx, uuid: str) -> list[str]:
        """The policy; returns the users that had it."""
        tx.execute(select(policy.c.uuid).where(policy.c.uuid == uuid).with_for_update())
        gone = delete(user_policy).where(user_policy.c.policy_uuid == uuid).returning(user_policy.c.user_uuid)
        users = [str(r[0]) for r in tx.execute(gone).all()]
        tx.execute(delete(policy).where(policy.c.uuid == uuid))
        resource.remove(tx, uuid)
        return users


def _login(account_uuid: str, name: str) -> str:
    return f"{account_uuid}/{name}"


def _or_taken(tx: Tx, statement: Any, name: str) -> None:
    try:
        tx.execute(statement)
    except IntegrityError as exc:
        if "unique" in str(exc.orig).lower():
            raise USER_NAME_TAKEN.error(f"the account has a user named {name!r}") from exc
        raise


def count_owned(tx: Tx, account_uuid: str, kind: str) -> int:
    """How many resources of one type the account owns."""
    statement = select(func.count()).where(core.c.account_uuid == account_uuid, core.c.type == kind)
    return int(tx.execute(statement).scalar() or 0)
