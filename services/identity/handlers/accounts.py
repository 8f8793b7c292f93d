"""Accounts: create, change, disable, delete, passwords; and the first account."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.identity import (
    ACCOUNT,
    PASSWORD_WRONG,
    Account,
    AccountChanged,
    AccountCreated,
    AccountState,
    AccountType,
    ChangeAccountPassword,
    CreateAccount,
    DeleteAccount,
    DisableAccount,
    EnableAccount,
    UpdateAccount,
)
from mgmtnode.contracts.quota import QuotaDefinition
from mgmtnode.contracts.session import SessionEnded
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import KEY_REUSED
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller, WorkToken
from mgmtnode.jobs.once import Once
from mgmtnode.schema import changes
from mgmtnode.service import handler, job, validate
from services.identity import validate as check
from services.identity.config import PASSWORD_LENGTH
from services.identity.flows import DELETE_ACCOUNT
from services.identity.handlers.parts import Parts
from services.identity.tokens import VIA_SESSION


class AccountHandlers(Parts):
    def quota_definitions(self) -> list[QuotaDefinition]:
        raise NotImplementedError

    @handler()
    async def create_account(self, msg: CreateAccount, caller: Caller) -> Account:
        if msg.type is AccountType.SYSTEM_ADMIN:
            check.account_itself(caller)
        check.strong(msg.password, self.node.config.get(PASSWORD_LENGTH))
        hashed = await self.passwords.hash(msg.password)
        uuid, once = self.node.uuids.draw(), self.once(msg, caller, ACCOUNT)
        made = await self.node.db.write(
            lambda tx: once.do(tx, uuid, lambda: self._insert_account(tx, uuid, msg, hashed))
        )
        if once.replayed:
            await self.same_password(made.uuid, msg.password)
        return made

    @validate
    def check_update_account(self, tx: Tx, msg: UpdateAccount, caller: Caller) -> None:
        check.own(tx, caller, ACCOUNT, msg.uuid)
        check.account_itself(caller)

    @job()
    def update_account(self, tx: Tx, msg: UpdateAccount) -> Account:
        resource.change(tx, ACCOUNT, msg.uuid, **changes(msg, "uuid"))
        return self._account_changed(tx, self.accounts.get(tx, msg.uuid))

    @job()
    def enable_account(self, tx: Tx, msg: EnableAccount) -> Account:
        return self._account_changed(tx, self.accounts.set_state(tx, msg.uuid, AccountState.ENABLED))

    @validate
    def check_disable_account(self, tx: Tx, msg: DisableAccount, caller: Caller) -> None:
        check.removable(caller, msg.uuid)

    @job()
    def disable_account(self, tx: Tx, msg: DisableAccount) -> Account:
        self.sessions.end_all(tx, msg.uuid, users=True)
        return self._account_changed(tx, self.accounts.set_state(tx, msg.uuid, AccountState.DISABLED))

    @validate
    def check_delete_account(self, tx: Tx, msg: DeleteAccount, caller: Caller) -> None:
        check.removable(caller, msg.uuid)

    @job(DELETE_ACCOUNT)
    def delete_account(self, msg: DeleteAccount, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind=ACCOUNT.type, force=msg.force)

    @handler()
    async def change_account_password(self, msg: ChangeAccountPassword, caller: Caller) -> Nothing:
        check.account_itself(caller)
        await self.node.db.read(lambda tx: check.own(tx, caller, ACCOUNT, msg.uuid))
        if msg.uuid == caller.account_uuid:
            await self.check_current(msg.uuid, msg.current, caller)
        hashed, once = await self.new_password(msg.password), self.once(msg, caller, ACCOUNT)
        await self.node.db.write(lambda tx: self.replace_password(tx, once, msg.uuid, None, hashed))
        return NOTHING

    async def same_password(self, uuid: str, password: str | None) -> None:
        """A key stands for a request with its password, which only its hash can be compared with. Raises
        core.idempotency-key-reused."""
        stored = await self.node.db.read(lambda tx: self.accounts.password(tx, uuid))
        if (password or stored) and not await self.passwords.verify(password or "", stored or ""):
            raise KEY_REUSED.error("the idempotency key was used with another password", resource=uuid)

    async def new_password(self, password: str) -> str:
        """The hash to store. Raises account.password-weak."""
        check.strong(password, self.node.config.get(PASSWORD_LENGTH))
        return await self.passwords.hash(password)

    async def check_current(self, uuid: str, current: str | None, caller: Caller) -> None:
        """Who finds an open session may not make it his own. A key needs no password: that may be lost.

        Raises account.password-wrong.
        """
        stored = await self.node.db.read(lambda tx: self.accounts.password(tx, uuid))
        if not stored or not caller.via.startswith(VIA_SESSION):
            return
        await self.throttle.check(uuid)
        if not await self.passwords.verify(current or "", stored):
            await self.throttle.failed(uuid)
            raise PASSWORD_WRONG.error(resource=uuid)
        await self.throttle.succeeded(uuid)

    def replace_password(
        self, tx: Tx, once: Once[Nothing], account_uuid: str, user_uuid: str | None, hashed: str
    ) -> None:
        """Replaces it again for a repeated request, which comes to the same and leaves nothing to compare with."""
        self.accounts.set_password(tx, user_uuid or account_uuid, hashed)
        self.sessions.end_all(tx, account_uuid, user_uuid)
        self.tell(tx, SessionEnded(resource_uuid=account_uuid, user_uuid=user_uuid), account_uuid)
        once.rehearsed(user_uuid or account_uuid, NOTHING)

    def ensure_admin(self, tx: Tx, hashed: str) -> None:
        """Makes the operator's account on the first boot of the first node; gives all accounts new quotas."""
        if not self.accounts.exists(tx, SYSTEM_ACCOUNT):
            first = CreateAccount(name="admin", password="-", type=AccountType.SYSTEM_ADMIN)
            self._insert_account(tx, SYSTEM_ACCOUNT, first, hashed)
        self.accounts.lock(tx, SYSTEM_ACCOUNT)  # one node at a time
        for uuid in self.accounts.all(tx):
            self.quotas.ensure(tx, uuid, self.quota_definitions())

    def _insert_account(self, tx: Tx, uuid: str, msg: CreateAccount, hashed: str) -> Account:
        account = self.accounts.insert(tx, uuid, msg.name, msg.description, msg.type)
        if hashed:
            self.accounts.set_password(tx, uuid, hashed)
        self.quotas.ensure(tx, uuid, self.quota_definitions())
        tx.record(AccountCreated(resource_uuid=uuid, account=account))
        return account

    def _account_changed(self, tx: Tx, account: Account) -> Account:
        self.tell(tx, AccountChanged(resource_uuid=account.uuid, account=account), account.uuid)
        return account
