"""What is refused, in which words, and that nothing sent can be more than refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError, Category
from mgmtnode.query.engine import Query
from tests.query import schema as s

HOSTILE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANYTHING = st.text(st.characters(), max_size=60)


def refusal(query: Query, tx: Tx, *conditions: Any, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        query.page(tx, s.VM, conditions, **options)
    assert caught.value.category is Category.INVALID
    return caught.value


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("sate=Running", "query.unknown-field", "vm has no field 'sate'; did you mean state?"),
        ("host.nam=x", "query.unknown-field", "host has no field 'nam'; did you mean name?"),
        ("hots.name=x", "query.unknown-field", "vm has no relation 'hots'; did you mean host?"),
        ("host=x", "query.unknown-field", "host is a relation of vm: name a field of it, such as host.uuid"),
        ("state.name=x", "query.unknown-field", "vm.state is a field and leads nowhere"),
        ("nics=null", "query.unknown-field", "nics is a relation of vm"),
        ("=x", "query.unknown-field", "vm has no field ''"),
        (".".join(["host.vms"] * 5) + ".name=x", "query.unknown-field", "follows more than 8 relations"),
        ("name", "query.unknown-operator", "'name' has no operator"),
        ("name==x", "query.unknown-operator", "there is no operator ==; did you mean =?"),
        ("name<>x", "query.unknown-operator", "there is no operator <>; did you mean !=?"),
        ("cpus=>1", "query.unknown-operator", "there is no operator =>; did you mean >=?"),
        ("ha>true", "query.unknown-operator", "vm.ha is of kind boolean and has no operator >"),
        ("cpus~=1%", "query.unknown-operator", "vm.cpus is of kind integer and has no operator ~="),
        ("labels?=a", "query.unknown-operator", "vm.labels is of kind json"),
        ("labels=[]", "query.bad-value", "which takes null"),
        ("state=Runing", "query.bad-value", "takes one of Running, Stopped, Unknown; did you mean"),
        ("state?=Running,Off", "query.bad-value", "takes one of Running, Stopped, Unknown"),
        ("cpus=many", "query.bad-value", "'many' does not fit vm.cpus, which takes an integer of 64 bits"),
        ("cpus=9223372036854775808", "query.bad-value", "an integer of 64 bits"),
        ("cpus=" + "9" * 5000, "query.bad-value", "an integer of 64 bits"),
        ("cpus=١", "query.bad-value", "an integer of 64 bits"),
        ("host.load=nan", "query.bad-value", "a number"),
        ("host.load=1e999", "query.bad-value", "a number"),
        ("ha=yes", "query.bad-value", "true or false"),
        ("created_at>yesterday", "query.bad-value", "an RFC 3339 time such as 2026-01-31T08:00:00Z"),
        ("created_at>2026-01-01T00:00:00", "query.bad-value", "an RFC 3339 time"),
        ("created_at>0001-01-01T00:00:00+10:00", "query.bad-value", "an RFC 3339 time"),
        ("uuid=12", "query.bad-value", "a uuid"),
        ("name~=a\\", "query.bad-value", "does not end in a single backslash"),
        ("name~=a%\\", "query.bad-value", "does not end in a single backslash"),
        ("name=a\0b", "query.bad-value", "NUL"),
        ("name=\ud800", "query.bad-value", "not valid Unicode"),
        ("name=" + "x" * 70_000, "query.bad-value", "at most 65536 characters"),
        ("name=" + "x" * 5_000, "query.bad-value", "a text of at most 4096 characters"),
        ("name?=" + "x," * 2_000, "query.bad-value", "at most 1024 members"),
        (["name=x"], "query.bad-value", "a condition is a text"),
    ],
)
def test_a_wrong_condition_is_refused_by_name(
    query: Query, tx: Tx, condition: Any, code: str, words: str
) -> None:
    error = refusal(query, tx, condition)
    assert error.code == code
    assert words.split("; did you mean")[0] in error.problem.message


def test_a_refusal_says_what_is_known(query: Query, tx: Tx) -> None:
    details = refusal(query, tx, "sate=Running").problem.details
    assert details["field"] == "sate"
    assert {"state", "name", "host", "user_tag", "account_uuid"} <= set(details["known"])
    assert refusal(query, tx, "cpus~=1").problem.details["known"] == sorted(
        ["=", "!=", ">", ">=", "<", "<=", "?=", "!?="]
    )


def test_too_many_conditions_are_refused(query: Query, tx: Tx) -> None:
    assert refusal(query, tx, *["cpus=1"] * 33).code == "query.bad-value"
    query.page(tx, s.VM, ["cpus=1"] * 32)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", None, 1.5])
def test_a_limit_outside_1_to_1000_is_refused(query: Query, tx: Tx, limit: Any) -> None:
    assert refusal(query, tx, limit=limit).code == "query.bad-limit"


@pytest.mark.parametrize(
    "sort", ["nam", "-", "labels", "nics", "name,,cpus", "host.name", "--name", "na\0me"]
)
def test_a_sort_by_what_is_no_plain_field_is_refused(query: Query, tx: Tx, sort: str) -> None:
    assert refusal(query, tx, sort=sort).code in ("query.bad-sort", "query.bad-value")


def test_unknown_fields_cannot_be_chosen(query: Query, tx: Tx) -> None:
    assert refusal(query, tx, fields=("uuid", "nmae")).problem.message.endswith("did you mean name?")


def test_a_cursor_of_another_query_is_refused(query: Query, tx: Tx) -> None:
    cursor = query.page(tx, s.VM, ["ha=true"], sort="name", limit=2).next_cursor
    assert cursor
    assert refusal(query, tx, "ha=false", sort="name", cursor=cursor).code == "query.bad-cursor"
    assert refusal(query, tx, "ha=true", sort="-name", cursor=cursor).code == "query.bad-cursor"
    assert query.page(tx, s.VM, ["ha=true"], sort="name", limit=5, cursor=cursor, fields=["uuid"]).items


def test_a_forged_cursor_is_refused(query: Query, tx: Tx) -> None:
    cursor = query.page(tx, s.VM, [], sort="cpus", limit=2).next_cursor or ""
    print_, (_, uuid) = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    wrong_first = [[value, uuid] for value in (None, "x", 2**70, 1.5, True, [1])]
    for forged in (*wrong_first, [1, "x"], [1, None], [1], [1, uuid, 1], {}):
        text = base64.urlsafe_b64encode(json.dumps([print_, forged]).encode()).decode().rstrip("=")
        assert refusal(query, tx, sort="cpus", cursor=text).code == "query.bad-cursor", forged


BEGINNINGS = (
    "", "name", "host.", "user_tag", "name=", "name~=", "cpus?=", "created_at>", "uuid~=", "system_tag=",
    "host.load<", "state~=", "name?=", "nics.ip!~=", "host.uuid=",
)  # fmt: skip


@given(text=ANYTHING)
@example("=")
@example("%\\")
@example("\ud800")
@example("a\0")
@example("1" * 70_000)
@HOSTILE
def test_nothing_sent_is_more_than_refused(query: Query, tx: Tx, text: str) -> None:
    asked: list[dict[str, Any]] = [{"conditions": [beginning + text]} for beginning in BEGINNINGS]
    asked += [{"sort": text}, {"cursor": text}, {"fields": (text,)}]
    for options in asked:
        try:
            query.page(tx, s.VM, **options)
        except ApiError as error:
            assert error.category is Category.INVALID


@given(text=ANYTHING)
@example("\ud800")
@example("a\0")
@example("1" * 70_000)
@HOSTILE
def test_what_is_not_there_is_not_found_whatever_it_is_called(query: Query, tx: Tx, text: str) -> None:
    for kind in (s.VM, s.ZONE):
        with pytest.raises(ApiError) as caught:
            query.get(tx, kind, text)
        assert caught.value.category is Category.NOT_FOUND
