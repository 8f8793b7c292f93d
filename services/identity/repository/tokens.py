"""The only SQL on sessions and API keys, and the one statement that a token is looked up with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from mgmtnode.contracts.identity import AccountState, AccountType, PolicyStatement
from mgmtnode.contracts.session import API_KEY, ApiKey, Session
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource as core
from services.identity.models import account, api_key, policy, session, user_policy

if TYPE_CHECKING:
    from mgmtnode.query.engine import Query


class Bearer(msgspec.Struct, frozen=True):
    """What the database says of a token. ``uuid`` is the session's or the key's."""

    uuid: str
    account_uuid: str
    account_name: str
    type: AccountType
    state: AccountState
    user_uuid: str | None
    expires_at: datetime | None


class SessionRepository:
    def insert(self, tx: Tx, opened: Session, digest: str) -> None:
        tx.execute(insert(session).values(msgspec.structs.asdict(opened) | {"digest": digest}))

    def find(self, tx: Tx, uuid: str) -> Session | None:
        columns = [session.c[f] for f in Session.__struct_fields__]
        row = tx.execute(select(*columns).where(session.c.uuid == uuid)).mappings().first()
        return Session(**row) if row else None

    def bearer(self, tx: Tx, digest: str) -> Bearer | None:
        owner = and_(account.c.uuid == session.c.account_uuid, core.c.uuid == account.c.uuid)
        statement = select(
            session.c.uuid,
            session.c.account_uuid,
            core.c.name,
            account.c.type,
            account.c.state,
            session.c.user_uuid,
            session.c.expires_at,
        ).where(session.c.digest == digest, owner)
        return _bearer(tx.execute(statement).first())

    def extend(self, tx: Tx, uuid: str, until: datetime) -> None:
        later = and_(session.c.uuid == uuid, session.c.expires_at < until)
        tx.execute(update(session).where(later).values(expires_at=until))

    def end(self, tx: Tx, uuid: str) -> bool:
        """Whether there was one."""
        return bool(tx.execute(delete(session).where(session.c.uuid == uuid)).rowcount)

    def end_all(
        self, tx: Tx, account_uuid: str, user_uuid: str | None = None, *, users: bool = False
    ) -> None:
        """Those of the account itself (``users``: and of all its users), or of one user."""
        which = session.c.account_uuid == account_uuid
        if not users:
            which = and_(which, _whose(user_uuid))
        tx.execute(delete(session).where(which))

    def end_expired(self, tx: Tx) -> None:
        tx.execute(delete(session).where(session.c.expires_at <= tx.now))

    def keep_newest(self, tx: Tx, account_uuid: str, user_uuid: str | None, limit: int) -> None:
        """Ends the oldest sessions beyond ``limit``."""
        mine = and_(session.c.account_uuid == account_uuid, _whose(user_uuid))
        newest = (
            select(session.c.uuid).where(mine).order_by(session.c.created_at.desc(), session.c.uuid.desc())
        )
        extra = newest.offset(limit).limit(1000)
        if uuids := [r[0] for r in tx.execute(extra)]:
            tx.execute(delete(session).where(session.c.uuid.in_(uuids)))


class ApiKeyRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> ApiKey:
        found: ApiKey = self._query.get(tx, API_KEY, uuid)
        return found

    def find(self, tx: Tx, uuid: str) -> ApiKey | None:
        known = tx.execute(select(api_key.c.uuid).where(api_key.c.uuid == uuid)).first()
        return self.get(tx, uuid) if known else None

    def replace(self, tx: Tx, uuid: str, digest: str) -> None:
        """The key has another token from now on."""
        tx.execute(update(api_key).where(api_key.c.uuid == uuid).values(digest=digest))

    def insert(self, tx: Tx, key: ApiKey, digest: str) -> ApiKey:
        """Stores ``key``; its times are the transaction's."""
        resource.create(
            tx, API_KEY, key.uuid, key.name, account=key.account_uuid, description=key.description
        )
        values = {
            "uuid": key.uuid,
            "user_uuid": key.user_uuid,
            "digest": digest,
            "expires_at": key.expires_at,
        }
        tx.execute(insert(api_key).values(values))
        return self.get(tx, key.uuid)

    def of_name(self, tx: Tx, account_uuid: str, name: str) -> list[tuple[str, str]]:
        """(uuid, digest) of the account's own keys of that name."""
        rows = tx.execute(
            select(api_key.c.uuid, api_key.c.digest)
            .join(core, core.c.uuid == api_key.c.uuid)
            .where(core.c.account_uuid == account_uuid, core.c.name == name, api_key.c.user_uuid.is_(None))
        )
        return [(str(r[0]), str(r[1])) for r in rows]

    def bearer(self, tx: Tx, digest: str) -> Bearer | None:
        named = core.alias("account_resource")
        statement = (
            select(
                api_key.c.uuid,
                core.c.account_uuid,
                named.c.name,
                account.c.type,
                account.c.state,
                api_key.c.user_uuid,
                api_key.c.expires_at,
            )
            .join(core, core.c.uuid == api_key.c.uuid)
            .join(named, named.c.uuid == core.c.account_uuid)
            .join(account, account.c.uuid == named.c.uuid)
            .where(api_key.c.digest == digest)
        )
        return _bearer(tx.execute(statement).first())

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(api_key).where(api_key.c.uuid == uuid))
        resource.remove(tx, uuid)


def statements_of(tx: Tx, user_uuid: str) -> Iterable[PolicyStatement]:
    """The statements of all policies that a user has."""
    attached = select(policy.c.statements).join(user_policy, user_policy.c.policy_uuid == policy.c.uuid)
    for row in tx.execute(attached.where(user_policy.c.user_uuid == user_uuid)):
        yield from row[0]


def _bearer(row: Any) -> Bearer | None:
    if row is None:
        return None
    uuid, account_uuid, name, kind, state, user_uuid, expires_at = row
    return Bearer(uuid, account_uuid, name, AccountType(kind), AccountState(state), user_uuid, expires_at)


def _whose(user_uuid: str | None) -> ColumnElement[bool]:
    return session.c.user_uuid.is_(None) if user_uuid is None else session.c.user_uuid == user_uuid
