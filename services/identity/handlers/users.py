"""Users of an account, and the policies that say what they may do."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.identity import (
    POLICY,
    POLICY_FOREIGN,
    USER,
    AttachPolicy,
    ChangeUserPassword,
    CreatePolicy,
    CreateUser,
    DeletePolicy,
    DeleteUser,
    DetachPolicy,
    Policy,
    PolicyChanged,
    PolicyCreated,
    PolicyDeleted,
    UpdatePolicy,
    UpdateUser,
    User,
    UserChanged,
    UserCreated,
    UserDeleted,
)
from mgmtnode.contracts.session import ApiKeyDeleted
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import changes
from mgmtnode.service import handler, job, validate
from services.identity import validate as check
from services.identity.config import USERS_MAX
from services.identity.handlers.accounts import AccountHandlers


class UserHandlers(AccountHandlers):
    @handler()
    async def create_user(self, msg: CreateUser, caller: Caller) -> User:
        check.account_itself(caller)
        hashed = await self.new_password(msg.password) if msg.password is not None else ""
        uuid, once = self.node.uuids.draw(), self.once(msg, caller, USER)
        made = await self.node.db.write(
            lambda tx: once.do(
                tx, uuid, lambda: self._insert_user(tx, uuid, msg, caller.account_uuid, hashed)
            )
        )
        if once.replayed:
            await self.same_password(made.uuid, msg.password)
        return made

    @validate
    def check_update_user(self, tx: Tx, msg: UpdateUser, caller: Caller) -> None:
        self._manages(tx, caller, msg.uuid)

    @job()
    def update_user(self, tx: Tx, msg: UpdateUser) -> User:
        return self._user_changed(tx, self.users.change(tx, msg.uuid, changes(msg, "uuid")))

    @validate
    def check_attach(self, tx: Tx, msg: AttachPolicy, caller: Caller) -> None:
        self._manages(tx, caller, msg.uuid)
        check.own(tx, caller, POLICY, msg.policy_uuid)
        if resource.owner_of(tx, msg.uuid) != resource.owner_of(tx, msg.policy_uuid):
            raise POLICY_FOREIGN.error(resource=msg.policy_uuid)

    @job()
    def attach(self, tx: Tx, msg: AttachPolicy) -> User:
        return self._user_changed(tx, self.users.attach(tx, msg.uuid, msg.policy_uuid))

    @validate
    def check_detach(self, tx: Tx, msg: DetachPolicy, caller: Caller) -> None:
        self._manages(tx, caller, msg.uuid)

    @job()
    def detach(self, tx: Tx, msg: DetachPolicy) -> User:
        return self._user_changed(tx, self.users.detach(tx, msg.uuid, msg.policy_uuid))

    @validate
    def check_delete_user(self, tx: Tx, msg: DeleteUser, caller: Caller) -> None:
        self._manages(tx, caller, msg.uuid)

    @job()
    def delete_user(self, tx: Tx, msg: DeleteUser) -> Nothing:
        account_uuid = resource.owner_of(tx, msg.uuid)
        for key in self.users.keys(tx, msg.uuid):
            tx.record(ApiKeyDeleted(resource_uuid=key, account_uuid=account_uuid))
            self.keys.delete(tx, key)
        self.tell(tx, UserDeleted(resource_uuid=msg.uuid, account_uuid=account_uuid), account_uuid)
        self.users.delete(tx, msg.uuid)
        return NOTHING

    @handler()
    async def change_user_password(self, msg: ChangeUserPassword, caller: Caller) -> Nothing:
        account_uuid = await self.node.db.read(lambda tx: check.own(tx, caller, USER, msg.uuid))
        if msg.uuid == caller.user_uuid:
            await self.check_current(msg.uuid, msg.current, caller)
        else:
            check.account_itself(caller)
        hashed, once = await self.new_password(msg.password), self.once(msg, caller, USER)
        await self.node.db.write(lambda tx: self.replace_password(tx, once, account_uuid, msg.uuid, hashed))
        return NOTHING

    @validate
    def check_create_policy(self, tx: Tx, msg: CreatePolicy, caller: Caller) -> None:
        check.account_itself(caller)

    @job()
    def create_policy(self, tx: Tx, msg: CreatePolicy) -> Policy:
        policy = self.policies.insert(
            tx,
            tx.job.resource_uuid,
            msg.name,
            description=msg.description,
            account=tx.job.account_uuid,
            statements=msg.statements,
        )
        tx.record(PolicyCreated(resource_uuid=policy.uuid, policy=policy))
        return policy

    @validate
    def check_update_policy(self, tx: Tx, msg: UpdatePolicy, caller: Caller) -> None:
        check.own(tx, caller, POLICY, msg.uuid)
        check.account_itself(caller)

    @job()
    def update_policy(self, tx: Tx, msg: UpdatePolicy) -> Policy:
        policy = self.policies.change(tx, msg.uuid, changes(msg, "uuid"))
        self.tell(tx, PolicyChanged(resource_uuid=policy.uuid, policy=policy), policy.account_uuid)
        return policy

    @validate
    def check_delete_policy(self, tx: Tx, msg: DeletePolicy, caller: Caller) -> None:
        check.own(tx, caller, POLICY, msg.uuid)
        check.account_itself(caller)

    @job()
    def delete_policy(self, tx: Tx, msg: DeletePolicy) -> Nothing:
        account_uuid = resource.owner_of(tx, msg.uuid)
        self.tell(tx, PolicyDeleted(resource_uuid=msg.uuid, account_uuid=account_uuid), account_uuid)
        for user in self.policies.delete(tx, msg.uuid):
            self._user_changed(tx, self.users.get(tx, user))
        return NOTHING

    def _insert_user(self, tx: Tx, uuid: str, msg: CreateUser, account_uuid: str, hashed: str) -> User:
        check.room_for(tx, account_uuid, USER, self.node.config.get(USERS_MAX))
        user = self.users.insert(tx, uuid, msg.name, msg.description, account_uuid)
        if hashed:
            self.accounts.set_password(tx, uuid, hashed)
        tx.record(UserCreated(resource_uuid=uuid, user=user))
        return user

    def _manages(self, tx: Tx, caller: Caller, user_uuid: str) -> None:
        check.own(tx, caller, USER, user_uuid)
        check.account_itself(caller)

    def _user_changed(self, tx: Tx, user: User) -> User:
        self.tell(tx, UserChanged(resource_uuid=user.uuid, user=user), user.account_uuid)
        return user
