from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.errors import IN_USE, ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller, JobState

PASSWORD = "correct horse"
ADMIN = Caller(account_uuid=SYSTEM_ACCOUNT, account_name="admin", admin=True)


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=rf"^{code}:")


def user_of(bench: Any, caller: Caller, name: str = "ana") -> User:
    return bench.call(bench.service.create_user, CreateUser(name=name, password=PASSWORD), caller)


def policy_of(bench: Any, caller: Caller, *actions: str, effect: str = "Allow") -> Policy:
    statement = PolicyStatement(effect=effect, actions=list(actions))
    return bench.job(bench.service.create_policy, CreatePolicy(name="p", statements=[statement]), caller)


def as_user(caller: Caller, user: User) -> Caller:
    return msgspec.structs.replace(caller, user_uuid=user.uuid, statements=[])


def test_the_first_boot_makes_the_admin_account_and_the_second_leaves_it(bench: Any) -> None:
    assert bench.login("admin").admin
    bench.run(bench.service.start())
    assert bench.count("account") == 1
    assert [e.resource_uuid for e in bench.hooks.named("account.created")] == [SYSTEM_ACCOUNT]


@pytest.mark.integration
def test_nodes_that_boot_at_the_same_time_make_one_admin_account(
    postgres_url: str, tmp_path: Path, bench: Any
) -> None:
    engine = open_database(postgres_url, bench.clock).engine
    metadata.create_all(engine)
    engine.dispose()
    with ThreadPoolExecutor(4) as pool:
        booting = [pool.submit(type(bench), tmp_path, url=postgres_url) for _ in range(4)]
        nodes = [boot.result() for boot in booting]
    try:
        assert (nodes[0].count("account"), nodes[0].count("quota")) == (1, 2)
    finally:
        for node in nodes:
            node.close()


def test_no_inventory_event_or_stored_row_shows_a_password(bench: Any, tenant: Caller) -> None:
    account = bench.write(lambda tx: bench.service.accounts.get(tx, tenant.account_uuid))
    shown = msgspec.json.encode([account, *bench.hooks.events]).decode()
    assert "hash" not in shown and PASSWORD not in shown
    stored = bench.write(lambda tx: bench.service.accounts.password(tx, tenant.account_uuid))
    assert stored.startswith("scrypt$4$") and PASSWORD not in stored


def test_account_names_are_unique(bench: Any, tenant: Caller) -> None:
    with refused("core.name-taken"):
        bench.call(bench.service.create_account, CreateAccount(name="acme", password=PASSWORD))


def test_a_short_password_is_refused(bench: Any) -> None:
    with refused("account.password-weak"):
        bench.call(bench.service.create_account, CreateAccount(name="x", password="short"))


def test_only_an_operator_account_itself_makes_operator_accounts(bench: Any) -> None:
    user = user_of(bench, ADMIN)
    msg = CreateAccount(name="x", password=PASSWORD, type=AccountType.SYSTEM_ADMIN)
    with refused("account.only"):
        bench.call(bench.service.create_account, msg, as_user(ADMIN, user))
    assert bench.call(bench.service.create_account, msg).type is AccountType.SYSTEM_ADMIN


def test_a_tenant_renames_itself_and_nobody_else(bench: Any, tenant: Caller, stranger: Caller) -> None:
    assert (
        bench.job(
            bench.service.update_account, UpdateAccount(uuid=tenant.account_uuid, name="a2"), tenant
        ).name
        == "a2"
    )
    assert bench.login("a2").account_uuid == tenant.account_uuid
    with refused("core.not-found"):
        bench.job(bench.service.update_account, UpdateAccount(uuid=stranger.account_uuid, name="b"), tenant)


def test_a_disabled_account_is_kept_out_until_it_is_enabled(bench: Any, tenant: Caller) -> None:
    token, key = bench.login("acme").token, bench.key(tenant)
    bench.job(bench.service.disable_account, DisableAccount(uuid=tenant.account_uuid))
    for bearer in (token, key):
        with refused("core.unauthenticated"):
            bench.who(bearer)
    with refused("session.account-disabled"):
        bench.login("acme")
    with refused("session.login-failed"):
        bench.login("acme", "wrong password")
    bench.job(bench.service.enable_account, EnableAccount(uuid=tenant.account_uuid))
    assert bench.who(key).account_uuid == tenant.account_uuid


@pytest.mark.parametrize("message", [DeleteAccount, DisableAccount])
def test_the_admin_account_and_ones_own_are_protected(bench: Any, message: Any) -> None:
    second = bench.call(
        bench.service.create_account,
        CreateAccount(name="ops", password=PASSWORD, type=AccountType.SYSTEM_ADMIN),
    )
    caller = Caller(account_uuid=second.uuid, admin=True)
    for uuid in (SYSTEM_ACCOUNT, second.uuid):
        with refused("account.protected"):
            bench.accept(message(uuid=uuid), caller)


def test_deleting_an_account_deletes_what_it_owns_and_leaves_nothing(
    bench: Any, tenant: Caller, ended: Any
) -> None:
    user, policy = user_of(bench, tenant), policy_of(bench, tenant, "vm.*")
    bench.job(bench.service.attach, AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    bench.key(tenant, user_uuid=user.uuid)
    bench.login("acme", user="ana")
    before = {bench.gadget(tenant.account_uuid) for _ in range(3)}
    other = bench.gadget(SYSTEM_ACCOUNT)
    deleted = []

    async def children(work: Any, *, parallel: int) -> Any:
        for _, msg in work:
            deleted.append(msg.uuid)
            await bench.db.write(lambda tx, uuid=msg.uuid: bench.drop(tx, uuid))
        return [ended(msg, JobState.SUCCEEDED) for _, msg in work]

    bench.delete_account(tenant.account_uuid, children)
    assert set(deleted) == before and other not in deleted
    left = {
        t: bench.count(t)
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
    assert bench.count("pool") == 2 and len(bench.hooks.named("account.deleted")) == 1


def test_resources_that_need_each_other_go_in_rounds(bench: Any, tenant: Caller, ended: Any) -> None:
    uuids = [bench.gadget(tenant.account_uuid) for _ in range(3)]
    keys: list[str] = []

    async def children(work: Any, *, parallel: int) -> Any:
        """Only the oldest can go: the others need it."""
        keys.extend(key for key, _ in work)
        oldest = min(msg.uuid for _, msg in work)
        await bench.db.write(lambda tx: bench.drop(tx, oldest))
        states = {True: JobState.SUCCEEDED, False: JobState.FAILED}
        return [ended(msg, states[msg.uuid == oldest]) for _, msg in work]

    bench.delete_account(tenant.account_uuid, children)
    assert len(keys) == len(set(keys)) == 6 and len(uuids) == 3


def test_an_account_that_cannot_be_emptied_stays_and_works_again(
    bench: Any, tenant: Caller, ended: Any
) -> None:
    bench.gadget(tenant.account_uuid)
    key = bench.key(tenant)

    async def children(work: Any, *, parallel: int) -> Any:
        with refused("core.unauthenticated"):
            await bench.service.authenticator.authenticate(key)
        return [ended(msg, JobState.FAILED, IN_USE.error("a lock holds it")) for _, msg in work]

    with pytest.raises(ApiError, match="a lock holds it"):
        bench.delete_account(tenant.account_uuid, children)
    assert bench.who(key).account_uuid == tenant.account_uuid


def test_a_new_password_ends_the_sessions_and_needs_the_current_one(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    caller = bench.who(token)
    change = bench.service.change_account_password
    with refused("account.password-wrong"):
        bench.call(change, ChangeAccountPassword(uuid=caller.account_uuid, password="another horse"), caller)
    msg = ChangeAccountPassword(uuid=caller.account_uuid, password="another horse", current=PASSWORD)
    bench.call(change, msg, caller)
    with refused("core.unauthenticated"):
        bench.who(token)
    with refused("session.login-failed"):
        bench.login("acme")
    assert bench.login("acme", "another horse")


def test_nobody_changes_the_password_of_another_account_but_the_operator(
    bench: Any, tenant: Caller, stranger: Caller
) -> None:
    msg = ChangeAccountPassword(uuid=tenant.account_uuid, password="another horse")
    with refused("core.not-found"):
        bench.call(bench.service.change_account_password, msg, stranger)
    user = user_of(bench, tenant)
    with refused("account.only"):
        bench.call(bench.service.change_account_password, msg, as_user(tenant, user))
    bench.call(bench.service.change_account_password, msg, ADMIN)
    assert bench.login("acme", "another horse")


def test_user_names_are_unique_within_their_account(bench: Any, tenant: Caller, stranger: Caller) -> None:
    first = user_of(bench, tenant)
    second = user_of(bench, tenant, "bob")
    assert user_of(bench, stranger).name == "ana"
    with refused("user.name-taken"):
        user_of(bench, tenant)
    with refused("user.name-taken"):
        bench.job(bench.service.update_user, UpdateUser(uuid=second.uuid, name="ana"), tenant)
    bench.job(bench.service.update_user, UpdateUser(uuid=first.uuid, name="eva"), tenant)
    assert bench.login("acme", user="eva").user_uuid == first.uuid


def test_a_user_hands_out_no_rights(bench: Any, tenant: Caller) -> None:
    user, policy = user_of(bench, tenant), policy_of(bench, tenant, "*")
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
            bench.accept(msg, caller)
    with refused("account.only"):
        bench.call(bench.service.create_user, CreateUser(name="x"), caller)


def test_policies_of_others_are_not_there(bench: Any, tenant: Caller, stranger: Caller) -> None:
    user, theirs = user_of(bench, tenant), policy_of(bench, stranger, "*")
    msg = AttachPolicy(uuid=user.uuid, policy_uuid=theirs.uuid)
    with refused("core.not-found"):
        bench.accept(msg, tenant)
    with refused("policy.foreign"):
        bench.accept(msg, ADMIN)
    for other in (UpdatePolicy(uuid=theirs.uuid, name="x"), DeletePolicy(uuid=theirs.uuid)):
        with refused("core.not-found"):
            bench.accept(other, tenant)


def test_a_policy_is_attached_once_detached_and_taken_away_when_deleted(bench: Any, tenant: Caller) -> None:
    user, policy = user_of(bench, tenant), policy_of(bench, tenant, "vm.*")
    attach = AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid)
    bench.job(bench.service.attach, attach, tenant)
    assert bench.job(bench.service.attach, attach, tenant).policy_uuids == [policy.uuid]
    detached = bench.job(bench.service.detach, DetachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    assert detached.policy_uuids == []
    bench.job(bench.service.attach, attach, tenant)
    bench.job(bench.service.delete_policy, DeletePolicy(uuid=policy.uuid), tenant)
    assert bench.count("user_policy") == 0
    assert bench.hooks.named("user.changed")[-1].user.policy_uuids == []


def test_a_user_changes_its_own_password_only(bench: Any, tenant: Caller) -> None:
    ana, bob = user_of(bench, tenant), user_of(bench, tenant, "bob")
    caller = bench.who(bench.login("acme", user="ana").token)
    own = ChangeUserPassword(uuid=ana.uuid, password="another horse", current=PASSWORD)
    bench.call(bench.service.change_user_password, own, caller)
    assert bench.login("acme", "another horse", "ana")
    with refused("account.only"):
        msg = ChangeUserPassword(uuid=bob.uuid, password="another horse")
        bench.call(bench.service.change_user_password, msg, caller)


def test_the_number_of_users_is_bounded(bench: Any, tenant: Caller) -> None:
    bench.configs.values["identity.users_max"] = 2
    user_of(bench, tenant, "a")
    user_of(bench, tenant, "b")
    with refused("account.too-many"):
        user_of(bench, tenant, "c")


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
