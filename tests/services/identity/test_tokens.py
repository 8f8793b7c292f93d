from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from mgmtnode.contracts.identity import (
    AttachPolicy,
    CreatePolicy,
    CreateUser,
    DeleteUser,
    PolicyStatement,
    UpdatePolicy,
    User,
)
from mgmtnode.contracts.session import DeleteApiKey, DeleteSession, EnsureApiKey, GetIdentity, OpenSession
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller
from services.identity.passwords import PARALLEL, WAITING, Passwords
from services.identity.throttle import KEPT, NodeThrottle
from services.identity.tokens import TOKEN_LENGTH, digest_of

PASSWORD = "correct horse"


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=rf"^{code}:")


def user_of(cloud: Any, caller: Caller, name: str = "ana") -> User:
    return cloud.call(cloud.service.create_user, CreateUser(name=name, password=PASSWORD), caller)


def statements_counted(cloud: Any) -> list[str]:
    seen: list[str] = []

    def note(*args: Any) -> None:
        if args[2] != "BEGIN":
            seen.append(args[2])

    for engine in (cloud.db._reader, cloud.db._writer):
        event.listen(engine, "before_cursor_execute", note)
    return seen


def test_a_token_is_shown_once_and_stored_as_its_digest(cloud: Any, tenant: Caller) -> None:
    token = cloud.login("acme").token
    assert len(token) == TOKEN_LENGTH
    rows = cloud.write(lambda tx: tx.connection.exec_driver_sql("select * from session").all())
    assert token not in str(rows) and digest_of(token) in str(rows)


def test_a_session_stands_for_its_account_or_user(cloud: Any, tenant: Caller) -> None:
    user = user_of(cloud, tenant)
    account, person = cloud.who(cloud.login("acme").token), cloud.who(cloud.login("acme", user="ana").token)
    assert (account.account_uuid, account.user_uuid, account.statements, account.admin) == (
        tenant.account_uuid,
        None,
        None,
        False,
    )
    assert (person.user_uuid, person.account_name) == (user.uuid, "acme")
    assert cloud.call(cloud.service.whoami, GetIdentity(), person).user_uuid == user.uuid


@pytest.mark.parametrize(
    ("account", "user", "password"),
    [
        ("acme", None, "wrong"),
        ("nobody", None, PASSWORD),
        ("acme", "nobody", PASSWORD),
        ("nobody", "x", "wrong"),
        ("acme", "mute", "wrong"),
    ],
)
def test_every_bad_login_gets_the_same_answer_after_the_same_work(
    cloud: Any, tenant: Caller, account: str, user: str | None, password: str
) -> None:
    cloud.call(cloud.service.create_user, CreateUser(name="mute"), tenant)
    hashed: list[str] = []
    derive = cloud.service.passwords._derive

    async def counted(password: str, salt: bytes, cost: int) -> bytes:
        hashed.append(password)
        return await derive(password, salt, cost)

    cloud.service.passwords._derive = counted
    with pytest.raises(ApiError) as caught:
        cloud.login(account, password, user)
    assert str(caught.value) == "session.login-failed: no such account or user, or not its password"
    assert len(hashed) == 1


def test_too_many_failures_lock_the_name_for_a_while_known_or_not(cloud: Any, tenant: Caller) -> None:
    cloud.configs.values["identity.login_attempts"] = 3
    for name in ("acme", "nobody"):
        for _ in range(3):
            with refused("session.login-failed"):
                cloud.login(name, "wrong")
        with pytest.raises(ApiError) as caught:
            cloud.login(name)
        assert caught.value.code == "session.login-locked" and caught.value.problem.retry_after == 60
    cloud.clock.seconds += 61
    assert cloud.login("acme")


def test_a_good_login_clears_the_count(cloud: Any, tenant: Caller) -> None:
    cloud.configs.values["identity.login_attempts"] = 2
    for _ in range(5):
        with refused("session.login-failed"):
            cloud.login("acme", "wrong")
        cloud.login("acme")


def test_the_throttle_remembers_a_bounded_number_of_names(cloud: Any) -> None:
    throttle = NodeThrottle(cloud.clock, lambda: 3, lambda: 60)

    async def flood() -> None:
        for n in range(KEPT + 100):
            await throttle.failed(f"name-{n}")

    cloud.run(flood())
    assert len(throttle._failures) == KEPT


def test_logins_beyond_the_bound_are_turned_away(cloud: Any) -> None:
    passwords = Passwords(cloud.rng, lambda: 4)

    async def storm() -> list[Any]:
        many = [passwords.verify("x", "") for _ in range(WAITING + 10)]
        return await asyncio.gather(*many, return_exceptions=True)

    answers = cloud.run(storm())
    turned_away = [a for a in answers if isinstance(a, ApiError)]
    assert len(turned_away) == 10 and turned_away[0].code == "core.overloaded"
    assert answers.count(False) == WAITING > PARALLEL


def test_a_used_session_lives_on_and_an_idle_one_ends(cloud: Any, tenant: Caller) -> None:
    used, idle = cloud.login("acme").token, cloud.login("acme").token
    for _ in range(5):
        cloud.clock.seconds += 3600
        cloud.who(used)
    with refused("core.unauthenticated"):
        cloud.who(idle)
    cloud.clock.seconds += 7201
    with refused("core.unauthenticated"):
        cloud.who(used)
    cloud.login("acme")
    assert cloud.count("session") == 1, "a login sweeps out the expired ones"


def test_the_oldest_session_gives_way(cloud: Any, tenant: Caller) -> None:
    cloud.configs.values["identity.sessions_max"] = 3
    tokens = []
    for _ in range(5):
        cloud.clock.seconds += 1
        tokens.append(cloud.login("acme").token)
    cloud.service.authenticator.forget(tenant.account_uuid)
    for token in tokens[:2]:
        with refused("core.unauthenticated"):
            cloud.who(token)
    assert all(cloud.who(token) for token in tokens[2:])


def test_a_session_ends_at_once_and_only_for_its_owner(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    user_of(cloud, tenant)
    opened, other = cloud.login("acme"), cloud.login("acme", user="ana")
    caller, person = cloud.who(opened.token), cloud.who(other.token)
    for wrong in (stranger, person):
        with refused("core.not-found"):
            cloud.call(cloud.service.end_session, DeleteSession(uuid=opened.uuid), wrong)
    cloud.call(cloud.service.end_session, DeleteSession(uuid=opened.uuid), caller)
    with refused("core.unauthenticated"):
        cloud.who(opened.token)
    cloud.call(cloud.service.end_session, DeleteSession(uuid=other.uuid), tenant)
    with refused("core.unauthenticated"):
        cloud.who(other.token)


@pytest.mark.parametrize(
    "token", ["", "x", "mns_" + "a" * 43, "mnk_" + "\x00" * 43, "mns_" + "é" * 43, "m" * 5000]
)
def test_what_is_no_token_is_refused(cloud: Any, token: str) -> None:
    with refused("core.unauthenticated"):
        cloud.who(token)


def test_a_known_token_costs_no_statement(cloud: Any, tenant: Caller) -> None:
    token = cloud.login("acme").token
    cloud.who(token)
    seen = statements_counted(cloud)
    for _ in range(100):
        cloud.who(token)
    assert seen == []
    cloud.clock.seconds += 6
    cloud.who(token)
    assert len(seen) == 1


def test_requests_at_the_same_time_share_one_look_up(cloud: Any, tenant: Caller) -> None:
    token = cloud.login("acme").token
    seen = statements_counted(cloud)

    async def many() -> list[Caller]:
        return await asyncio.gather(*(cloud.service.authenticator.authenticate(token) for _ in range(50)))

    assert len({c.via for c in cloud.run(many())}) == 1
    assert len(seen) == 1


def test_what_was_read_before_a_change_is_not_kept_after_it(cloud: Any, tenant: Caller) -> None:
    token = cloud.login("acme").token
    authenticator = cloud.service.authenticator
    read = cloud.db.read

    async def slow_read(work: Any) -> Any:
        found = await read(work)
        authenticator.forget(tenant.account_uuid)  # the change commits while the answer is on its way
        return found

    cloud.db.read = slow_read
    cloud.who(token)
    assert not authenticator._cache and not authenticator._lookups


def test_a_policy_holds_from_its_change_on(cloud: Any, tenant: Caller) -> None:
    user = user_of(cloud, tenant)
    token = cloud.login("acme", user="ana").token
    assert [s.actions for s in cloud.who(token).statements][:-1] == []
    create = CreatePolicy(name="p", statements=[PolicyStatement(effect="Allow", actions=["vm.read"])])
    policy = cloud.job(cloud.service.create_policy, create, tenant)
    cloud.job(cloud.service.attach, AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    assert ["vm.read"] in [s.actions for s in cloud.who(token).statements]
    deny = PolicyStatement(effect="Deny", actions=["vm.*"], resources=["*"])
    cloud.job(cloud.service.update_policy, UpdatePolicy(uuid=policy.uuid, statements=[deny]), tenant)
    assert ("Deny", ["vm.*"]) in [(s.effect, s.actions) for s in cloud.who(token).statements]


def test_a_deleted_users_tokens_end(cloud: Any, tenant: Caller) -> None:
    user = user_of(cloud, tenant)
    tokens = [cloud.login("acme", user="ana").token, cloud.key(tenant, user_uuid=user.uuid)]
    assert all(cloud.who(token).user_uuid == user.uuid for token in tokens)
    cloud.job(cloud.service.delete_user, DeleteUser(uuid=user.uuid), tenant)
    for token in tokens:
        with refused("core.unauthenticated"):
            cloud.who(token)
    assert len(cloud.hooks.named("api_key.deleted")) == 1


def test_an_api_key_works_until_it_expires_or_is_deleted(
    cloud: Any, tenant: Caller, stranger: Caller
) -> None:
    lasting = cloud.key(tenant)
    short = cloud.key(tenant, expires_at=cloud.clock.now() + timedelta(seconds=100))
    assert cloud.who(short).account_uuid == tenant.account_uuid
    cloud.clock.seconds += 101
    with refused("core.unauthenticated"):
        cloud.who(short)
    uuid = cloud.who(lasting).via.partition(":")[2]
    with refused("core.not-found"):
        cloud.accept(DeleteApiKey(uuid=uuid), stranger)
    cloud.job(cloud.service.delete_api_key, DeleteApiKey(uuid=uuid), tenant)
    with refused("core.unauthenticated"):
        cloud.who(lasting)


def test_a_key_that_is_expired_from_the_start_is_refused(cloud: Any, tenant: Caller) -> None:
    for when in (cloud.clock.now(), cloud.clock.now().replace(tzinfo=None) + timedelta(days=1)):
        with refused("api_key.expiry-past"):
            cloud.key(tenant, expires_at=when)


def test_a_user_makes_and_deletes_keys_of_its_own_only(cloud: Any, tenant: Caller) -> None:
    user_of(cloud, tenant)
    bob = user_of(cloud, tenant, "bob")
    person = cloud.who(cloud.login("acme", user="ana").token)
    assert cloud.who(cloud.key(person)).user_uuid == person.user_uuid
    with refused("account.only"):
        cloud.key(person, user_uuid=bob.uuid)
    of_account = cloud.who(cloud.key(tenant)).via.partition(":")[2]
    with refused("account.only"):
        cloud.accept(DeleteApiKey(uuid=of_account), person)


def test_a_key_for_the_user_of_another_account_is_refused(
    cloud: Any, tenant: Caller, stranger: Caller
) -> None:
    theirs = user_of(cloud, stranger)
    with refused("core.not-found"):
        cloud.key(tenant, user_uuid=theirs.uuid)


def test_the_operators_key_is_made_once_and_replaced_when_its_token_was_lost(cloud: Any) -> None:
    def ensure(token: str = "") -> str:
        msg = EnsureApiKey(key_name="dev", token=token)
        return str(cloud.write(lambda tx: cloud.service.ensure_api_key(tx, msg)).token)

    first = ensure()
    assert ensure(first) == first and cloud.who(first).account_uuid == SYSTEM_ACCOUNT
    second = ensure()
    assert second != first and cloud.who(second).admin and cloud.count("api_key") == 1
    with refused("core.unauthenticated"):
        cloud.who(first)


def test_an_installation_without_an_admin_password_takes_no_admin_login(tmp_path: Any, cloud: Any) -> None:
    other = type(cloud)(tmp_path / "other.sqlite", admin_password="")
    try:
        for password in ("x", "correct horse"):
            with refused("session.login-failed"):
                other.login("admin", password)
    finally:
        other.close()


def test_hostile_passwords_are_just_wrong(cloud: Any) -> None:
    for password in ("\x00" * 10, "\ud800", "é" * 256, "' or 1=1 --"):
        with refused("session.login-failed"):
            cloud.call(cloud.service.open_session, OpenSession(account="admin", password=password))
