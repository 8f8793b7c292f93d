"""Accounts and their borders, through the API of a running node."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud, Refused

PASSWORD = "correct horse battery"
UNAUTHENTICATED = (401, "core.unauthenticated")


def refusal(cloud: Cloud, method: str, path: str, body: Any = None) -> tuple[int, str]:
    response = cloud.request(method, path, body)
    return response.status_code, str(response.json().get("code"))


def whoami(cloud: Cloud) -> dict[str, Any]:
    return dict(cloud.call("GET", "/whoami"))


def test_a_login_opens_a_session_that_shows_up_and_ends(cloud: Cloud) -> None:
    cloud.create("accounts", name="acme", password=PASSWORD)
    session = cloud.call("POST", "/sessions", {"account": "acme", "password": PASSWORD})
    tenant = cloud.as_(session["token"])
    assert session["account_name"] == "acme" and not session["admin"]
    assert [s["uuid"] for s in tenant.list("sessions")] == [session["uuid"]]
    assert "token" not in tenant.get("sessions", session["uuid"])
    tenant.delete("sessions", session["uuid"])
    tenant.agrees(lambda at: refusal(at, "GET", "/zones"), UNAUTHENTICATED)


def test_no_answer_shows_a_secret(cloud: Cloud) -> None:
    account = cloud.create("accounts", name="acme", password=PASSWORD)
    assert set(account) == {"uuid", "name", "description", "type", "state", "created_at", "updated_at"}
    tenant = cloud.login("acme", PASSWORD)
    tenant.create("users", name="ana", password=PASSWORD)
    made = tenant.create("api-keys", name="ci")
    text = "".join(
        cloud.request("GET", f"/{p}").text for p in ("accounts", "users", "api-keys", "sessions", "jobs")
    )
    for secret in (PASSWORD, made["token"], tenant.token, "scrypt", "digest", "hash"):
        assert secret not in text


def test_secrets_cannot_be_searched_for(cloud: Cloud) -> None:
    for path in ("/api-keys?q=digest~=a%25", "/sessions?q=digest~=a%25", "/accounts?q=hash~=s%25"):
        assert refusal(cloud, "GET", path) == (400, "query.unknown-field")


def test_an_account_goes_by_its_name(cloud: Cloud) -> None:
    account = cloud.create("accounts", name="acme", password=PASSWORD)
    assert cloud.get("accounts", "acme")["uuid"] == account["uuid"]
    cloud.call("POST", "/accounts/acme/actions/change-password", {"password": "another horse"})
    assert cloud.login("acme", "another horse")


def test_a_tenant_sees_and_touches_only_its_own(cloud: Cloud) -> None:
    acme, other = cloud.tenant("acme"), cloud.tenant("other")
    user = acme.create("users", name="ana", password=PASSWORD)
    statements = [{"effect": "Allow", "actions": ["vm.*"]}]
    policy = acme.create("policies", name="vms", statements=statements)
    key = acme.create("api-keys", name="ci")["api_key"]
    session = acme.list("sessions")[0]
    account = whoami(acme)["account_uuid"]
    quotas = acme.list("quotas")
    mine = [("users", user), ("policies", policy), ("api-keys", key), ("sessions", session)]
    mine += [("accounts", {"uuid": account}), *(("quotas", quota) for quota in quotas)]
    for plural, thing in mine:
        path = f"/{plural}/{thing['uuid']}"
        assert acme.get(plural, thing["uuid"])["uuid"] == thing["uuid"]
        assert thing["uuid"] not in {item["uuid"] for item in other.list(plural)}
        assert other.list(plural, f"uuid={thing['uuid']}") == []
        assert refusal(other, "GET", path) == (404, "core.not-found")
        if plural not in ("accounts", "quotas"):
            assert refusal(other, "DELETE", path) == (404, "core.not-found")
        if plural in ("users", "policies", "accounts"):
            assert refusal(other, "PATCH", path, {"name": "x"}) == (404, "core.not-found")
    assert refusal(other, "GET", f"/accounts/{account}/quota-usage") == (404, "core.not-found")
    assert refusal(other, "GET", f"/resources/{user['uuid']}/ownership") == (404, "core.not-found")
    assert {a["name"] for a in other.list("accounts")} == {"other"}
    assert {a["name"] for a in cloud.list("accounts")} == {"admin", "acme", "other"}


def test_a_tenant_does_nothing_that_is_the_operators(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")
    own = whoami(acme)["account_uuid"]
    for method, path, body in (
        ("POST", "/accounts", {"name": "x", "password": PASSWORD}),
        ("POST", f"/accounts/{own}/actions/disable", None),
        ("DELETE", f"/accounts/{own}", None),
        ("POST", f"/resources/{own}/actions/change-owner", {"account_uuid": own}),
    ):
        assert refusal(acme, method, path, body) == (403, "core.denied")


def test_a_user_does_what_its_policies_allow(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")
    user = acme.create("users", name="ana", password=PASSWORD)
    ana = acme.login("acme", PASSWORD, user="ana")
    assert whoami(ana)["user_uuid"] == user["uuid"]
    assert refusal(ana, "GET", "/users") == (403, "core.denied")
    allow = acme.create("policies", name="look", statements=[{"effect": "Allow", "actions": ["user.read"]}])
    held = acme.act("users", user["uuid"], "attach-policy", policy_uuid=allow["uuid"])
    assert held["policy_uuids"] == [allow["uuid"]]
    ana.agrees(lambda at: at.request("GET", "/users").status_code, 200)
    assert [u["name"] for u in ana.list("users")] == ["ana"]
    deny = acme.create("policies", name="blind", statements=[{"effect": "Deny", "actions": ["*.read"]}])
    acme.act("users", user["uuid"], "attach-policy", policy_uuid=deny["uuid"])
    ana.agrees(lambda at: refusal(at, "GET", "/users"), (403, "core.denied"))
    acme.delete("policies", deny["uuid"])
    ana.agrees(lambda at: at.request("GET", "/users").status_code, 200)
    assert [u["policy_uuids"] for u in ana.list("users")] == [[allow["uuid"]]]
    acme.delete("users", user["uuid"])
    ana.agrees(lambda at: refusal(at, "GET", "/users"), UNAUTHENTICATED)


def test_a_deleted_account_leaves_nothing_and_its_name_is_free(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")
    user = acme.create("users", name="ana", password=PASSWORD)
    policy = acme.create("policies", name="vms", statements=[{"effect": "Allow", "actions": ["vm.*"]}])
    acme.act("users", user["uuid"], "attach-policy", policy_uuid=policy["uuid"])
    acme.create("api-keys", name="ci", user_uuid=user["uuid"])
    cloud.delete("accounts", "acme")
    acme.agrees(lambda at: refusal(at, "GET", "/whoami"), UNAUTHENTICATED)
    for plural in ("users", "policies"):
        assert cloud.list(plural) == []
    assert [k["name"] for k in cloud.list("api-keys")] == ["test"]
    assert cloud.tenant("acme")


def test_the_operator_cannot_lock_itself_out(cloud: Cloud) -> None:
    assert refusal(cloud, "DELETE", "/accounts/admin") == (403, "account.protected")
    assert refusal(cloud, "POST", "/accounts/admin/actions/disable") == (403, "account.protected")


def test_a_shared_resource_is_seen_but_not_changed(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")
    zone = cloud.create("zones", name="west")
    path = f"/zones/{zone['uuid']}"
    assert refusal(acme, "GET", path) == (404, "core.not-found")
    shared = cloud.act("resources", zone["uuid"], "share", account_uuid=whoami(acme)["account_uuid"])
    assert shared["shared_with"] == [whoami(acme)["account_uuid"]]
    assert acme.get("zones", zone["uuid"])["name"] == "west"
    assert refusal(acme, "POST", f"/resources/{zone['uuid']}/actions/share")[0] in (403, 404)
    cloud.act("resources", zone["uuid"], "unshare", account_uuid=whoami(acme)["account_uuid"])
    assert refusal(acme, "GET", path) == (404, "core.not-found")


def test_the_operators_resources_stay_the_operators(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")
    zone = cloud.create("zones", name="west")
    body = {"account_uuid": whoami(acme)["account_uuid"]}
    answer = refusal(cloud, "POST", f"/resources/{zone['uuid']}/actions/change-owner", body)
    assert answer == (400, "resource.not-shareable")


def test_bad_logins_look_alike(cloud: Cloud) -> None:
    cloud.create("accounts", name="acme", password=PASSWORD)
    bodies = [
        {"account": "acme", "password": "wrong"},
        {"account": "nobody", "password": "wrong"},
        {"account": "acme", "user": "nobody", "password": "wrong"},
    ]
    answers = [cloud.request("POST", "/sessions", body).json() for body in bodies]
    for answer in answers:
        answer.pop("instance", None)
        answer.pop("request_id", None)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["code"] == "session.login-failed"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sessions", {"account": "a\u0000b", "password": "x"}),
        ("POST", "/sessions", {"account": "admin", "password": "x" * 10_000}),
        ("POST", "/sessions", {"account": "admin", "password": 7}),
        ("POST", "/sessions", {"account": "admin"}),
        ("POST", "/accounts", {"name": "x" * 300, "password": PASSWORD}),
        ("POST", "/accounts", {"name": "x", "password": PASSWORD, "type": "God"}),
        ("POST", "/users", {"name": "x", "password": "short"}),
        ("POST", "/policies", {"name": "x", "statements": []}),
        ("POST", "/policies", {"name": "x", "statements": [{"effect": "Allow", "actions": ["a b"]}]}),
        ("POST", "/api-keys", {"name": "x", "expires_at": "2001-01-01T00:00:00Z"}),
        ("POST", "/api-keys", {"name": "x", "expires_at": "2099-01-01T00:00:00"}),
        ("POST", "/api-keys", {"name": "x", "user_uuid": "00000000-0000-7000-8000-00000000abcd"}),
        ("DELETE", "/sessions/00000000-0000-7000-8000-00000000abcd", None),
        ("DELETE", "/sessions/%00", None),
        ("GET", "/resources/00000000-0000-7000-8000-00000000abcd/ownership", None),
        ("POST", "/resources/00000000-0000-7000-8000-00000000abcd/actions/share", {}),
        ("GET", "/accounts/nobody/quota-usage", None),
    ],
)
def test_bad_input_is_the_callers_fault(cloud: Cloud, method: str, path: str, body: Any) -> None:
    assert 400 <= cloud.request(method, path, body).status_code < 500


def test_a_refused_creation_says_why(cloud: Cloud) -> None:
    cloud.create("accounts", name="acme", password=PASSWORD)
    with pytest.raises(Refused) as refused:
        cloud.create("accounts", name="acme", password=PASSWORD)
    assert (refused.value.status, refused.value.code) == (409, "core.name-taken")


def test_a_repeated_request_for_an_api_key_leaves_one_key_that_works(cloud: Cloud) -> None:
    acme = cloud.tenant("acme")

    def ask(name: str) -> Any:
        return acme.http.post("/v1/api-keys", json={"name": name}, headers={"idempotency-key": "once"})

    first, second = ask("ci").json(), ask("ci").json()
    assert (
        first["api_key"] == second["api_key"] == acme.list("api-keys")[0] and len(acme.list("api-keys")) == 1
    )
    assert cloud.as_(second["token"]).request("GET", "/whoami").status_code == 200
    assert cloud.as_(first["token"]).request("GET", "/whoami").status_code == 401
    other = ask("another")
    assert (other.status_code, other.json()["code"]) == (422, "core.idempotency-key-reused")
