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
from mgmtnode.contracts.session import (
    DeleteApiKey,
    DeleteSession,
    EnsureApiKey,
    GetIdentity,
    OpenSession,
    SessionEnded,
)
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller
from services.identity.passwords import PARALLEL, WAITING, Passwords
from services.identity.throttle import KEPT, NodeThrottle
from services.identity.tokens import TOKEN_LENGTH, digest_of

PASSWORD = "correct horse"


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=rf"^{code}:")


def user_of(bench: Any, caller: Caller, name: str = "ana") -> User:
    return bench.call(bench.service.create_user, CreateUser(name=name, password=PASSWORD), caller)


def statements_counted(bench: Any) -> list[str]:
    seen: list[str] = []

    def note(*args: Any) -> None:
        if args[2] != "BEGIN":
            seen.append(args[2])

    for engine in (bench.db._reader, bench.db._writer):
        event.listen(engine, "before_cursor_execute", note)
    return seen


def test_a_token_is_shown_once_and_stored_as_its_digest(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    assert len(token) == TOKEN_LENGTH
    rows = bench.write(lambda tx: tx.connection.exec_driver_sql("select * from session").all())
    assert token not in str(rows) and digest_of(token) in str(rows)


def test_a_session_stands_for_its_account_or_user(bench: Any, tenant: Caller) -> None:
    user = user_of(bench, tenant)
    account, person = bench.who(bench.login("acme").token), bench.who(bench.login("acme", user="ana").token)
    assert (account.account_uuid, account.user_uuid, account.statements, account.admin) == (
        tenant.account_uuid,
        None,
        None,
        False,
    )
    assert (person.user_uuid, person.account_name) == (user.uuid, "acme")
    assert bench.call(bench.service.whoami, GetIdentity(), person).user_uuid == user.uuid


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
    bench: Any, tenant: Caller, account: str, user: str | None, password: str
) -> None:
    bench.call(bench.service.create_user, CreateUser(name="mute"), tenant)
    hashed: list[str] = []
    derive = bench.service.passwords._derive

    async def counted(password: str, salt: bytes, cost: int) -> bytes:
        hashed.append(password)
        return await derive(password, salt, cost)

    bench.service.passwords._derive = counted
    with pytest.raises(ApiError) as caught:
        bench.login(account, password, user)
    assert str(caught.value) == "session.login-failed: no such account or user, or not its password"
    assert len(hashed) == 1


def test_too_many_failures_lock_the_name_for_a_while_known_or_not(bench: Any, tenant: Caller) -> None:
    bench.configs.values["identity.login_attempts"] = 3
    for name in ("acme", "nobody"):
        for _ in range(3):
            with refused("session.login-failed"):
                bench.login(name, "wrong")
        with pytest.raises(ApiError) as caught:
            bench.login(name)
        assert caught.value.code == "session.login-locked" and caught.value.problem.retry_after == 60
    bench.clock.seconds += 61
    assert bench.login("acme")


def test_a_good_login_clears_the_count(bench: Any, tenant: Caller) -> None:
    bench.configs.values["identity.login_attempts"] = 2
    for _ in range(5):
        with refused("session.login-failed"):
            bench.login("acme", "wrong")
        bench.login("acme")


def test_the_throttle_remembers_a_bounded_number_of_names(bench: Any) -> None:
    throttle = NodeThrottle(bench.clock, lambda: 3, lambda: 60)

    async def flood() -> None:
        for n in range(KEPT + 100):
            await throttle.failed(f"name-{n}")

    bench.run(flood())
    assert len(throttle._failures) == KEPT


def test_logins_beyond_the_bound_are_turned_away(bench: Any) -> None:
    passwords = Passwords(bench.rng, lambda: 4)

    async def storm() -> list[Any]:
        many = [passwords.verify("x", "") for _ in range(WAITING + 10)]
        return await asyncio.gather(*many, return_exceptions=True)

    answers = bench.run(storm())
    turned_away = [a for a in answers if isinstance(a, ApiError)]
    assert len(turned_away) == 10 and turned_away[0].code == "core.overloaded"
    assert answers.count(False) == WAITING > PARALLEL


def test_a_used_session_lives_on_and_an_idle_one_ends(bench: Any, tenant: Caller) -> None:
    used, idle = bench.login("acme").token, bench.login("acme").token
    for _ in range(5):
        bench.clock.seconds += 3600
        bench.who(used)
    with refused("core.unauthenticated"):
        bench.who(idle)
    bench.clock.seconds += 7201
    with refused("core.unauthenticated"):
        bench.who(used)
    bench.login("acme")
    assert bench.count("session") == 1, "a login sweeps out the expired ones"


def test_the_oldest_session_gives_way(bench: Any, tenant: Caller) -> None:
    bench.configs.values["identity.sessions_max"] = 3
    tokens = []
    for _ in range(5):
        bench.clock.seconds += 1
        tokens.append(bench.login("acme").token)
    bench.service.authenticator.forget(tenant.account_uuid)
    for token in tokens[:2]:
        with refused("core.unauthenticated"):
            bench.who(token)
    assert all(bench.who(token) for token in tokens[2:])


def test_a_session_ends_at_once_and_only_for_its_owner(bench: Any, tenant: Caller, stranger: Caller) -> None:
    user_of(bench, tenant)
    opened, other = bench.login("acme"), bench.login("acme", user="ana")
    caller, person = bench.who(opened.token), bench.who(other.token)
    for wrong in (stranger, person):
        with refused("core.not-found"):
            bench.call(bench.service.end_session, DeleteSession(uuid=opened.uuid), wrong)
    bench.call(bench.service.end_session, DeleteSession(uuid=opened.uuid), caller)
    with refused("core.unauthenticated"):
        bench.who(opened.token)
    bench.call(bench.service.end_session, DeleteSession(uuid=other.uuid), tenant)
    with refused("core.unauthenticated"):
        bench.who(other.token)


@pytest.mark.parametrize(
    "token", ["", "x", "mns_" + "a" * 43, "mnk_" + "\x00" * 43, "mns_" + "é" * 43, "m" * 5000]
)
def test_what_is_no_token_is_refused(bench: Any, token: str) -> None:
    with refused("core.unauthenticated"):
        bench.who(token)


def test_a_known_token_costs_no_statement(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    bench.who(token)
    seen = statements_counted(bench)
    for _ in range(100):
        bench.who(token)
    assert seen == []
    bench.clock.seconds += 6
    bench.who(token)
    assert len(seen) == 1


def test_requests_at_the_same_time_share_one_look_up(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    seen = statements_counted(bench)

    async def many() -> list[Caller]:
        return await asyncio.gather(*(bench.service.authenticator.authenticate(token) for _ in range(50)))

    assert len({c.via for c in bench.run(many())}) == 1
    assert len(seen) == 1


def test_what_was_read_before_a_change_is_not_kept_after_it(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    authenticator = bench.service.authenticator
    read = bench.db.read

    async def slow_read(work: Any) -> Any:
        found = await read(work)
        authenticator.forget(tenant.account_uuid)  # the change commits while the answer is on its way
        return found

    bench.db.read = slow_read
    bench.who(token)
    assert not authenticator._cache and not authenticator._lookups


def test_another_nodes_change_is_heard(bench: Any, tenant: Caller) -> None:
    token = bench.login("acme").token
    bench.who(token)
    bench.run(bench.service.session_ended(SessionEnded(resource_uuid=SYSTEM_ACCOUNT)))
    assert len(bench.service.authenticator._cache) == 1
    bench.run(bench.service.session_ended(SessionEnded(resource_uuid=tenant.account_uuid)))
    assert not bench.service.authenticator._cache


def test_a_policy_holds_from_its_change_on(bench: Any, tenant: Caller) -> None:
    user = user_of(bench, tenant)
    token = bench.login("acme", user="ana").token
    assert [s.actions for s in bench.who(token).statements][:-1] == []
    create = CreatePolicy(name="p", statements=[PolicyStatement(effect="Allow", actions=["vm.read"])])
    policy = bench.job(bench.service.create_policy, create, tenant)
    bench.job(bench.service.attach, AttachPolicy(uuid=user.uuid, policy_uuid=policy.uuid), tenant)
    assert ["vm.read"] in [s.actions for s in bench.who(token).statements]
    deny = PolicyStatement(effect="Deny", actions=["vm.*"], resources=["*"])
    bench.job(bench.service.update_policy, UpdatePolicy(uuid=policy.uuid, statements=[deny]), tenant)
    assert ("Deny", ["vm.*"]) in [(s.effect, s.actions) for s in bench.who(token).statements]


def test_a_deleted_users_tokens_end(bench: Any, tenant: Caller) -> None:
    user = user_of(bench, tenant)
    tokens = [bench.login("acme", user="ana").token, bench.key(tenant, user_uuid=user.uuid)]
    assert all(bench.who(token).user_uuid == user.uuid for token in tokens)
    bench.job(bench.service.delete_user, DeleteUser(uuid=user.uuid), tenant)
    for token in tokens:
        with refused("core.unauthenticated"):
            bench.who(token)
    assert len(bench.hooks.named("api_key.deleted")) == 1


def test_an_api_key_works_until_it_expires_or_is_deleted(
    bench: Any, tenant: Caller, stranger: Caller
) -> None:
    lasting = bench.key(tenant)
    short = bench.key(tenant, expires_at=bench.clock.now() + timedelta(seconds=100))
    assert bench.who(short).account_uuid == tenant.account_uuid
    bench.clock.seconds += 101
    with refused("core.unauthenticated"):
        bench.who(short)
    uuid = bench.who(lasting).via.partition(":")[2]
    with refused("core.not-found"):
        bench.accept(DeleteApiKey(uuid=uuid), stranger)
    bench.job(bench.service.delete_api_key, DeleteApiKey(uuid=uuid), tenant)
    with refused("core.unauthenticated"):
        bench.who(lasting)


def test_a_key_that_is_expired_from_the_start_is_refused(bench: Any, tenant: Caller) -> None:
    for when in (bench.clock.now(), bench.clock.now().replace(tzinfo=None) + timedelta(days=1)):
        with refused("api_key.expiry-past"):
            bench.key(tenant, expires_at=when)


def test_a_user_makes_and_deletes_keys_of_its_own_only(bench: Any, tenant: Caller) -> None:
    user_of(bench, tenant)
    bob = user_of(bench, tenant, "bob")
    person = bench.who(bench.login("acme", user="ana").token)
    assert bench.who(bench.key(person)).user_uuid == person.user_uuid
    with refused("account.only"):
        bench.key(person, user_uuid=bob.uuid)
    of_account = bench.who(bench.key(tenant)).via.partition(":")[2]
    with refused("account.only"):
        bench.accept(DeleteApiKey(uuid=of_account), person)


def test_a_key_for_the_user_of_another_account_is_refused(
    bench: Any, tenant: Caller, stranger: Caller
) -> None:
    theirs = user_of(bench, stranger)
    with refused("core.not-found"):
        bench.key(tenant, user_uuid=theirs.uuid)


def test_the_operators_key_is_made_once_and_replaced_when_its_token_was_lost(bench: Any) -> None:
    def ensure(token: str = "") -> str:
        msg = EnsureApiKey(key_name="dev", token=token)
        return str(bench.write(lambda tx: bench.service.ensure_api_key(tx, msg)).token)

    first = ensure()
    assert ensure(first) == first and bench.who(first).account_uuid == SYSTEM_ACCOUNT
    second = ensure()
    assert second != first and bench.who(second).admin and bench.count("api_key") == 1
    with refused("core.unauthenticated"):
        bench.who(first)


def test_an_installation_without_an_admin_password_takes_no_admin_login(tmp_path: Any, bench: Any) -> None:
    other = type(bench)(tmp_path / "other.sqlite", admin_password="")
    try:
        for password in ("x", "correct horse"):
            with refused("session.login-failed"):
                other.login("admin", password)
    finally:
        other.close()


def test_hostile_passwords_are_just_wrong(bench: Any) -> None:
    for password in ("\x00" * 10, "\ud800", "é" * 256, "' or 1=1 --"):
        with refused("session.login-failed"):
            bench.call(bench.service.open_session, OpenSession(account="admin", password=password))
