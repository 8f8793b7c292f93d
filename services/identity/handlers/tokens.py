"""Logging in and out, API keys, and forgetting what is known of a token when something changed."""

from __future__ import annotations

from datetime import timedelta

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.identity import (
    USER,
    AccountChanged,
    AccountDeleted,
    AccountState,
    AccountType,
    PolicyChanged,
    PolicyDeleted,
    UserChanged,
    UserDeleted,
)
from mgmtnode.contracts.session import (
    ACCOUNT_DISABLED,
    API_KEY,
    API_KEY_EXPIRY,
    LOGIN_FAILED,
    SESSION,
    ApiKey,
    ApiKeyCreated,
    ApiKeyDeleted,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    DeleteSession,
    EnsureApiKey,
    GetIdentity,
    Identity,
    OpenedSession,
    OpenSession,
    Session,
    SessionEnded,
)
from mgmtnode.db.session import Tx
from mgmtnode.errors import KEY_REUSED, NOT_FOUND
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller
from mgmtnode.jobs.once import Once
from mgmtnode.service import handler, job, subscribe, validate
from services.identity import validate as check
from services.identity.config import API_KEYS_MAX, SESSION_LIFETIME, SESSIONS_MAX
from services.identity.handlers.parts import Parts
from services.identity.repository.accounts import Login
from services.identity.tokens import KEY_PREFIX, SESSION_PREFIX, VIA_KEY, VIA_SESSION, digest_of, draw_token


class TokenHandlers(Parts):
    @handler()
    async def open_session(self, msg: OpenSession, caller: Caller) -> OpenedSession:
        name = f"{msg.account}/{msg.user or ''}"
        await self.throttle.check(name)
        found = await self.node.db.read(lambda tx: self.accounts.find_login(tx, msg.account, msg.user))
        if not await self.passwords.verify(msg.password, found.hash if found else "") or found is None:
            await self.throttle.failed(name)
            raise LOGIN_FAILED.error()
        await self.throttle.succeeded(name)
        if found.state is not AccountState.ENABLED:
            raise ACCOUNT_DISABLED.error(resource=found.account_uuid)
        return await self._open(found, self.once(msg, caller, SESSION))

    @handler()
    async def end_session(self, msg: DeleteSession, caller: Caller) -> Nothing:
        once = self.once(msg, caller, SESSION)
        return await self.node.db.write(
            lambda tx: once.do(tx, msg.uuid, lambda: self._end(tx, msg.uuid, caller))
        )

    @handler()
    async def whoami(self, msg: GetIdentity, caller: Caller) -> Identity:
        kind, _, uuid = caller.via.partition(":")
        return Identity(
            account_uuid=caller.account_uuid,
            account_name=caller.account_name,
            user_uuid=caller.user_uuid,
            admin=caller.admin,
            session_uuid=uuid if kind == VIA_SESSION[:-1] else None,
            api_key_uuid=uuid if kind == VIA_KEY[:-1] else None,
        )

    @handler()
    async def create_api_key(self, msg: CreateApiKey, caller: Caller) -> CreatedApiKey:
        now = self.node.clock.now()
        if msg.expires_at is not None and (msg.expires_at.tzinfo is None or msg.expires_at <= now):
            raise API_KEY_EXPIRY.error("expires_at must be a time to come, with its time zone")
        token, once = draw_token(self.node.rng, KEY_PREFIX), self.once(msg, caller, API_KEY)
        uuid = once.uuid(f"{caller.account_uuid}/{caller.user_uuid}")

        def make(tx: Tx) -> ApiKey:
            made = self._make_once(tx, uuid, msg, caller, token)
            once.rehearsed(uuid, made)
            return made

        return CreatedApiKey(api_key=await self.node.db.write(make), token=token)

    @validate
    def check_delete_api_key(self, tx: Tx, msg: DeleteApiKey, caller: Caller) -> None:
        check.own(tx, caller, API_KEY, msg.uuid)
        if self.keys.get(tx, msg.uuid).user_uuid != caller.user_uuid:
            check.account_itself(caller)

    @job()
    def delete_api_key(self, tx: Tx, msg: DeleteApiKey) -> Nothing:
        self._remove_key(tx, msg.uuid, self.keys.get(tx, msg.uuid).account_uuid)
        return NOTHING

    @handler()
    def ensure_api_key(self, tx: Tx, msg: EnsureApiKey) -> CreatedApiKey:
        kept = digest_of(msg.token)
        for uuid, digest in self.keys.of_name(tx, SYSTEM_ACCOUNT, msg.key_name):
            if digest == kept:
                return CreatedApiKey(api_key=self.keys.get(tx, uuid), token=msg.token)
            self._remove_key(tx, uuid, SYSTEM_ACCOUNT)
        token = draw_token(self.node.rng, KEY_PREFIX)
        made = self._insert_key(
            tx, self.node.uuids.draw(), CreateApiKey(name=msg.key_name), SYSTEM_ACCOUNT, token
        )
        return CreatedApiKey(api_key=made, token=token)

    @subscribe
    async def account_changed(self, event: AccountChanged) -> None:
        self.authenticator.forget(event.resource_uuid)

    @subscribe
    async def account_deleted(self, event: AccountDeleted) -> None:
        self.authenticator.forget(event.resource_uuid)

    @subscribe
    async def user_changed(self, event: UserChanged) -> None:
        self.authenticator.forget(event.user.account_uuid)

    @subscribe
    async def user_deleted(self, event: UserDeleted) -> None:
        self.authenticator.forget(event.account_uuid)

    @subscribe
    async def policy_changed(self, event: PolicyChanged) -> None:
        self.authenticator.forget(event.policy.account_uuid)

    @subscribe
    async def policy_deleted(self, event: PolicyDeleted) -> None:
        self.authenticator.forget(event.account_uuid)

    @subscribe
    async def session_ended(self, event: SessionEnded) -> None:
        self.authenticator.forget(event.resource_uuid)

    @subscribe
    async def api_key_deleted(self, event: ApiKeyDeleted) -> None:
        self.authenticator.forget(event.account_uuid)

    async def _open(self, found: Login, once: Once[OpenedSession]) -> OpenedSession:
        token, now = draw_token(self.node.rng, SESSION_PREFIX), self.node.clock.now()
        opened = Session(
            uuid=once.uuid(f"{found.account_uuid}/{found.user_uuid}"),
            account_uuid=found.account_uuid,
            user_uuid=found.user_uuid,
            created_at=now,
            expires_at=now + timedelta(seconds=self.node.config.get(SESSION_LIFETIME)),
        )
        await self.node.db.write(lambda tx: self._insert_session(tx, once, opened, digest_of(token)))
        return OpenedSession(
            token=token,
            uuid=opened.uuid,
            account_uuid=found.account_uuid,
            account_name=found.account_name,
            user_uuid=found.user_uuid,
            admin=found.type is AccountType.SYSTEM_ADMIN,
            created_at=opened.created_at,
            expires_at=opened.expires_at,
        )

    def _insert_session(self, tx: Tx, once: Once[OpenedSession], opened: Session, digest: str) -> None:
        """A repeated login opens its session anew, with another token: the first one may never have arrived."""
        self.sessions.end_expired(tx)
        if self.sessions.end(tx, opened.uuid):
            tx.after_commit(lambda: self.authenticator.forget(opened.account_uuid))
        self.sessions.insert(tx, opened, digest)
        self.sessions.keep_newest(
            tx, opened.account_uuid, opened.user_uuid, self.node.config.get(SESSIONS_MAX)
        )
        once.rehearsed(opened.uuid, opened)

    def _end(self, tx: Tx, uuid: str, caller: Caller) -> Nothing:
        found = self.sessions.find(tx, uuid)
        mine = found and (caller.admin or found.account_uuid == caller.account_uuid)
        if not found or not mine or (caller.user_uuid and found.user_uuid != caller.user_uuid):
            raise NOT_FOUND.error(f"there is no session {uuid}", resource=uuid)
        self.sessions.end(tx, uuid)
        self.tell(tx, SessionEnded(resource_uuid=found.account_uuid, session_uuid=uuid), found.account_uuid)
        return NOTHING

    def _make_once(self, tx: Tx, uuid: str, msg: CreateApiKey, caller: Caller, token: str) -> ApiKey:
        """Makes the key, or, for a repeated request, gives it another token: the first one may never have arrived."""
        found = self.keys.find(tx, uuid)
        if found is None:
            return self._make_key(tx, uuid, msg, caller, token)
        user_uuid = msg.user_uuid or caller.user_uuid
        asked = (msg.name, msg.description, msg.expires_at, user_uuid)
        if asked != (found.name, found.description, found.expires_at, found.user_uuid):
            raise KEY_REUSED.error("the idempotency key was used for another API key", resource=uuid)
        self.keys.replace(tx, uuid, digest_of(token))
        tx.after_commit(lambda: self.forget(found.account_uuid))
        return found

    def _make_key(self, tx: Tx, uuid: str, msg: CreateApiKey, caller: Caller, token: str) -> ApiKey:
        account_uuid = caller.account_uuid
        if msg.user_uuid is not None and msg.user_uuid != caller.user_uuid:
            check.account_itself(caller)
            account_uuid = check.own(tx, caller, USER, msg.user_uuid)
        check.room_for(tx, account_uuid, API_KEY, self.node.config.get(API_KEYS_MAX))
        return self._insert_key(tx, uuid, msg, account_uuid, token, msg.user_uuid or caller.user_uuid)

    def _insert_key(
        self,
        tx: Tx,
        uuid: str,
        msg: CreateApiKey,
        account_uuid: str,
        token: str,
        user_uuid: str | None = None,
    ) -> ApiKey:
        wanted = ApiKey(
            uuid=uuid,
            name=msg.name,
            description=msg.description,
            account_uuid=account_uuid,
            user_uuid=user_uuid,
            expires_at=msg.expires_at,
            created_at=tx.now,
            updated_at=tx.now,
        )
        key = self.keys.insert(tx, wanted, digest_of(token))
        tx.record(ApiKeyCreated(resource_uuid=uuid, api_key=key))
        return key

    def _remove_key(self, tx: Tx, uuid: str, account_uuid: str) -> None:
        self.tell(tx, ApiKeyDeleted(resource_uuid=uuid, account_uuid=account_uuid), account_uuid)
        self.keys.delete(tx, uuid)
