from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mgmtnode.contracts.identity import (
    AccountType,
    AttachPolicy,
    ChangeAccountPassword,
    ChangeUserPassword,
    CreateAccount,
    CreatePolicy,
    CreateUser,
    DeleteAccount,
    DeletePolicy,
    DeleteUser,
    DetachPolicy,
    DisableAccount,
    EnableAccount,
    Policy,
    PolicyStatement,
    UpdateAccount,
    UpdatePolicy,
    UpdateUser,
    User,
)
from mgmtnode.errors import IN_USE, ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller, JobState

PASSWORD = "correct horse"
ADMIN = Caller(account_uuid=SYSTEM_ACCOUNT, account_name="admin", admin=True)


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=rf"^{code}:")


def user_of(cloud: Any, caller: Caller, name: str = "ana") -> User:
    return cloud.call(cloud.service.create_user, CreateUser(name=name, password=PASSWORD), caller)


def policy_of(cloud: Any, caller: Caller, *actions: str, effect: str = "Allow") -> Policy:
    statement = PolicyStatement(effect=effect, actions=list(actions))
    return cloud.job(cloud.service.create_policy, CreatePolicy(name="p", statements=[statement]), caller)


def as_user(caller: Caller, user: User) -> Caller:
    return msgspec.structs.replace(caller, user_uuid=user.uuid, statements=[])


def test_the_first_boot_makes_the_admin_account_and_the_second_leaves_it(cloud: Any) -> None:
    assert cloud.login("admin").admin
    cloud.run(cloud.service.start())
    assert cloud.count("account") == 1
    assert [e.resource_uuid for e in cloud.hooks.named("account.created")] == [SYSTEM_ACCOUNT]


def test_no_inventory_event_or_stored_row_shows_a_password(cloud: Any, tenant: Caller) -> None:
    account = cloud.write(lambda tx: cloud.service.accounts.get(tx, tenant.account_uuid))
    shown = msgspec.json.encode([account, *cloud.hooks.events]).decode()
    assert "hash" not in shown and PASSWORD not in shown
    stored = cloud.write(lambda tx: cloud.service.accounts.password(tx, tenant.account_uuid))
    assert stored.startswith("scrypt$4$") and PASSWORD not in stored


def test_account_names_are_unique(cloud: Any, tenant: Caller) -> None:
    with refused("core.name-taken"):
        cloud.call(cloud.service.create_account, CreateAccount(name="acme", password=PASSWORD))


def test_a_short_password_is_refused(cloud: Any) -> None:
    with refused("account.password-weak"):
        cloud.call(cloud.service.create_account, CreateAccount(name="x", password="short"))


def test_only_an_operator_account_itself_makes_operator_accounts(cloud: Any) -> None:
    user = user_of(cloud, ADMIN)
    msg = CreateAccount(name="x", password=PASSWORD, type=AccountType.SYSTEM_ADMIN)
    with refused("account.only"):
        cloud.call(cloud.service.create_account, msg, as_user(ADMIN, user))
    assert cloud.call(cloud.service.create_account, msg).type is AccountType.SYSTEM_ADMIN


def test_a_tenant_renames_itself_and_nobody_else(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    assert (
        cloud.job(
            cloud.service.update_account, UpdateAccount(uuid=tenant.account_uuid, name="a2"), tenant
        ).name
        == "a2"
    )
    assert cloud.login("a2").account_uuid == tenant.account_uuid
    with refused("core.not-found"):
        cloud.job(cloud.service.update_account, UpdateAccount(uuid=stranger.account_uuid, name="b"), tenant)


def test_a_disabled_account_is_kept_out_until_it_is_enabled(cloud: Any, tenant: Caller) -> None:
    token, key = cloud.login("acme").token, cloud.key(tenant)
    cloud.job(cloud.service.disable_account, DisableAccount(uuid=tenant.account_uuid))
    for bearer in (token, key):
        with refused("core.unauthenticated"):
            cloud.who(bearer)
    with refused("session.account-disabled"):
        cloud.login("acme")
    with refused("session.login-failed"):
        cloud.login("acme", "wrong password")
    cloud.job(cloud.service.enable_account, EnableAccount(uuid=tenant.account_uuid))
    assert cloud.who(key).account_uuid == tenant.account_uuid


@pytest.mark.parametrize("message", [DeleteAccount, DisableAccount])
def test_the_admin_account_and_ones_own_are_protected(cloud: Any, message: Any) -> None:
    second = cloud.call(
        cloud.service.create_account,
        CreateAccount(name="ops", password=PASSWORD, type=AccountType.SYSTEM_ADMIN),
    )
    caller = Caller(account_uuid=second.uuid, admin=True)
    for uuid in (SYSTEM_ACCOUNT, second.uuid):
        with refused("account.protected"):
            cloud.accept(message(uuid=uuid), caller)


def test_deleting_an_account_deletes_what_it_owns_and_leaves_nothing(
    cloud: Any, tenant: Caller, ended: Any
) -> None:
    user, policy = user_of(cloud, tenant), policy_of(cloud, tenant, "vm.*")
    cloud.job(cloud.service.attach, AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    cloud.key(tenant, user_uuid=user.uuid)
    cloud.login("acme", user="ana")
    before = {cloud.gadget(tenant.account_uuid) for _ in range(3)}
    other = cloud.gadget(SYSTEM_ACCOUNT)
    deleted = []

    async def children(work: Any, *, parallel: int) -> Any:
        for _, msg in work:
            deleted.append(msg.uuid)
            await cloud.db.write(lambda tx, uuid=msg.uuid: cloud.drop(tx, uuid))
        return [ended(msg, JobState.SUCCEEDED) for _, msg in work]

    cloud.delete_account(tenant.account_uuid, children)
    assert set(deleted) == before and other not in deleted
    left = {
        t: cloud.count(t)
        for t in ("account", "user", "policy", "user_policy", "api_key", "session", "password")
    }
    assert left == {
        "account": 1,
        "user": 0,
        "policy": 0,
        "user_policy": 0,
        "api_key": 0,
        "session": 0,
        "password": 1,
    }
    assert cloud.count("pool") == 2 and len(cloud.hooks.named("account.deleted")) == 1


def test_resources_that_need_each_other_go_in_rounds(cloud: Any, tenant: Caller, ended: Any) -> None:
    uuids = [cloud.gadget(tenant.account_uuid) for _ in range(3)]
    keys: list[str] = []

    async def children(work: Any, *, parallel: int) -> Any:
        """Only the oldest can go: the others need it."""
        keys.extend(key for key, _ in work)
        oldest = min(msg.uuid for _, msg in work)
        await cloud.db.write(lambda tx: cloud.drop(tx, oldest))
        states = {True: JobState.SUCCEEDED, False: JobState.FAILED}
        return [ended(msg, states[msg.uuid == oldest]) for _, msg in work]

    cloud.delete_account(tenant.account_uuid, children)
    assert len(keys) == len(set(keys)) == 6 and len(uuids) == 3


def test_an_account_that_cannot_be_emptied_stays_and_works_again(
    cloud: Any, tenant: Caller, ended: Any
) -> None:
    cloud.gadget(tenant.account_uuid)
    key = cloud.key(tenant)

    async def children(work: Any, *, parallel: int) -> Any:
        with refused("core.unauthenticated"):
            await cloud.service.authenticator.authenticate(key)
        return [ended(msg, JobState.FAILED, IN_USE.error("a lock holds it")) for _, msg in work]

    with pytest.raises(ApiError, match="a lock holds it"):
        cloud.delete_account(tenant.account_uuid, children)
    assert cloud.who(key).account_uuid == tenant.account_uuid


def test_a_new_password_ends_the_sessions_and_needs_the_current_one(cloud: Any, tenant: Caller) -> None:
    token = cloud.login("acme").token
    caller = cloud.who(token)
    change = cloud.service.change_account_password
    with refused("account.password-wrong"):
        cloud.call(change, ChangeAccountPassword(uuid=caller.account_uuid, password="another horse"), caller)
    msg = ChangeAccountPassword(uuid=caller.account_uuid, password="another horse", current=PASSWORD)
    cloud.call(change, msg, caller)
    with refused("core.unauthenticated"):
        cloud.who(token)
    with refused("session.login-failed"):
        cloud.login("acme")
    assert cloud.login("acme", "another horse")


def test_nobody_changes_the_password_of_another_account_but_the_operator(
    cloud: Any, tenant: Caller, stranger: Caller
) -> None:
    msg = ChangeAccountPassword(uuid=tenant.account_uuid, password="another horse")
    with refused("core.not-found"):
        cloud.call(cloud.service.change_account_password, msg, stranger)
    user = user_of(cloud, tenant)
    with refused("account.only"):
        cloud.call(cloud.service.change_account_password, msg, as_user(tenant, user))
    cloud.call(cloud.service.change_account_password, msg, ADMIN)
    assert cloud.login("acme", "another horse")


def test_user_names_are_unique_within_their_account(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    first = user_of(cloud, tenant)
    second = user_of(cloud, tenant, "bob")
    assert user_of(cloud, stranger).name == "ana"
    with refused("user.name-taken"):
        user_of(cloud, tenant)
    with refused("user.name-taken"):
        cloud.job(cloud.service.update_user, UpdateUser(uuid=second.uuid, name="ana"), tenant)
    cloud.job(cloud.service.update_user, UpdateUser(uuid=first.uuid, name="eva"), tenant)
    assert cloud.login("acme", user="eva").user_uuid == first.uuid


def test_a_user_hands_out_no_rights(cloud: Any, tenant: Caller) -> None:
    user, policy = user_of(cloud, tenant), policy_of(cloud, tenant, "*")
    caller = as_user(tenant, user)
    for msg in (
        AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid),
        UpdateUser(uuid=user.uuid, name="x"),
        UpdatePolicy(uuid=policy.uuid, name="x"),
        CreatePolicy(name="x", statements=[PolicyStatement(effect="Allow", actions=["*"])]),
        DeletePolicy(uuid=policy.uuid),
        DeleteUser(uuid=user.uuid),
        UpdateAccount(uuid=tenant.account_uuid, name="x"),
    ):
        with refused("account.only"):
            cloud.accept(msg, caller)
    with refused("account.only"):
        cloud.call(cloud.service.create_user, CreateUser(name="x"), caller)


def test_policies_of_others_are_not_there(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    user, theirs = user_of(cloud, tenant), policy_of(cloud, stranger, "*")
    msg = AttachPolicy(uuid=user.uuid, policy_uuid=theirs.uuid)
    with refused("core.not-found"):
        cloud.accept(msg, tenant)
    with refused("policy.foreign"):
        cloud.accept(msg, ADMIN)
    for other in (UpdatePolicy(uuid=theirs.uuid, name="x"), DeletePolicy(uuid=theirs.uuid)):
        with refused("core.not-found"):
            cloud.accept(other, tenant)


def test_a_policy_is_attached_once_detached_and_taken_away_when_deleted(cloud: Any, tenant: Caller) -> None:
    user, policy = user_of(cloud, tenant), policy_of(cloud, tenant, "vm.*")
    attach = AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid)
    cloud.job(cloud.service.attach, attach, tenant)
    assert cloud.job(cloud.service.attach, attach, tenant).policy_uuids == [policy.uuid]
    detached = cloud.job(cloud.service.detach, DetachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    assert detached.policy_uuids == []
    cloud.job(cloud.service.attach, attach, tenant)
    cloud.job(cloud.service.delete_policy, DeletePolicy(uuid=policy.uuid), tenant)
    assert cloud.count("user_policy") == 0
    assert cloud.hooks.named("user.changed")[-1].user.policy_uuids == []


def test_a_user_changes_its_own_password_only(cloud: Any, tenant: Caller) -> None:
    ana, bob = user_of(cloud, tenant), user_of(cloud, tenant, "bob")
    caller = cloud.who(cloud.login("acme", user="ana").token)
    own = ChangeUserPassword(uuid=ana.uuid, password="another horse", current=PASSWORD)
    cloud.call(cloud.service.change_user_password, own, caller)
    assert cloud.login("acme", "another horse", "ana")
    with refused("account.only"):
        msg = ChangeUserPassword(uuid=bob.uuid, password="another horse")
        cloud.call(cloud.service.change_user_password, msg, caller)


def test_the_number_of_users_is_bounded(cloud: Any, tenant: Caller) -> None:
    cloud.configs.values["identity.users_max"] = 2
    user_of(cloud, tenant, "a")
    user_of(cloud, tenant, "b")
    with refused("account.too-many"):
        user_of(cloud, tenant, "c")


@pytest.mark.parametrize(
    "statement",
    [
        {"effect": "Maybe", "actions": ["vm.*"]},
        {"effect": "Allow", "actions": []},
        {"effect": "Allow", "actions": ["vm.*; drop"]},
        {"effect": "Allow", "actions": ["vm.*"], "resources": ["\x00"]},
        {"effect": "Allow"},
    ],
)
def test_a_malformed_policy_is_refused_at_the_border(statement: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "p", "statements": [statement]}, CreatePolicy)
