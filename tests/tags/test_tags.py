from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from mgmtnode.db import resource
from mgmtnode.db.session import SqlDatabase
from mgmtnode.errors import ApiError, DeclarationError
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.tags import repository
from mgmtnode.tags.system_tag import SystemTag
from mgmtnode.tags.tags import Tags

HA = SystemTag("ha", "box", "Restart it elsewhere")
IP = SystemTag("staticIp::{l3}::{ip}", "box", "Fixed address", unique=False)
HOSTNAME = SystemTag(
    "hostname::{name}", "box", "Name", check=lambda t: None if t["name"].islower() else "lower case only"
)
OS = SystemTag("os::{name}", "box", "What was found on it", inherent=True)
PIN = SystemTag("pin::{cpu}", "box", "Physical CPU", admin=True)
SEED = SystemTag("seed::{value}", "box", "Used while it is made", ephemeral=True)
OTHER = SystemTag("ha", "rack", "Another type may use the same text")


@pytest.fixture
def tags() -> Tags:
    made = Tags(UuidSource(SystemClock(), SystemRng()))
    made.declare("box", [HA, IP, HOSTNAME, OS, PIN, SEED])
    made.declare("rack", [OTHER])
    return made


def texts(db: SqlDatabase, uuid: str, kind: str = "system") -> list[str]:
    return sorted(row.text for row in db.run(lambda tx: repository.of(tx, [uuid], kind)))


def apply(db: SqlDatabase, tags: Tags, uuid: str, *system: str, **more: Any) -> Any:
    return db.run(lambda tx: tags.apply(tx, "box", uuid, system_tags=system, **more))


def refused(code: str, work: Callable[[], Any]) -> str:
    with pytest.raises(ApiError) as raised:
        work()
    assert raised.value.code == code
    return raised.value.problem.message


def test_what_a_request_carries_is_on_the_resource(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    apply(db, tags, boxes[0], "ha", "staticIp::net-1::10.0.0.7", user_tags=["blue", "rack 7"])
    assert texts(db, boxes[0]) == ["ha", "staticIp::net-1::10.0.0.7"]
    assert texts(db, boxes[0], "user") == ["blue", "rack 7"]
    assert db.run(lambda tx: tags.of(tx, IP, boxes[0])) == [{"l3": "net-1", "ip": "10.0.0.7"}]
    assert db.run(lambda tx: tags.of(tx, HA, boxes[0])) == [{}]
    assert db.run(lambda tx: tags.of(tx, HOSTNAME, boxes[0])) == []


def test_a_tag_nobody_declares_is_refused_with_the_nearest_form(
    db: SqlDatabase, tags: Tags, boxes: Any
) -> None:
    message = refused("tag.unknown", lambda: apply(db, tags, boxes[0], "hostnam::a"))
    assert "hostname::{name}" in message
    refused("tag.unknown", lambda: apply(db, tags, boxes[0], "HA"))
    assert texts(db, boxes[0]) == []


def test_an_inherent_tag_is_for_its_service_only(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    refused("tag.inherent", lambda: apply(db, tags, boxes[0], "os::linux", admin=True))
    db.run(lambda tx: tags.set(tx, OS, boxes[0], name="linux"))
    assert texts(db, boxes[0]) == ["os::linux"]


def test_an_admin_tag_is_for_the_operator_only(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    refused("tag.inherent", lambda: apply(db, tags, boxes[0], "pin::3"))
    apply(db, tags, boxes[0], "pin::3", admin=True)
    assert texts(db, boxes[0]) == ["pin::3"]


def test_a_value_that_its_service_refuses_is_refused_with_the_reason(
    db: SqlDatabase, tags: Tags, boxes: Any
) -> None:
    assert "lower case only" in refused("tag.invalid", lambda: apply(db, tags, boxes[0], "hostname::Web"))
    refused("tag.invalid", lambda: db.run(lambda tx: tags.set(tx, HOSTNAME, boxes[0], name="Web")))


def test_a_unique_tag_twice_and_any_tag_twice_are_refused(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    refused("tag.exists", lambda: apply(db, tags, boxes[0], "hostname::a", "hostname::b"))
    refused("tag.exists", lambda: apply(db, tags, boxes[0], "staticIp::n::1", "staticIp::n::1"))
    refused("tag.exists", lambda: apply(db, tags, boxes[0], user_tags=["blue", "blue"]))
    apply(db, tags, boxes[0], "staticIp::n::1", "staticIp::n::2")


@pytest.mark.parametrize("text", ["", "   ", "a\nb", "x" * 1025])
def test_a_user_tag_that_nobody_could_read_is_refused(
    db: SqlDatabase, tags: Tags, boxes: Any, text: str
) -> None:
    refused("core.invalid", lambda: apply(db, tags, boxes[0], user_tags=[text]))


def test_an_ephemeral_tag_is_handed_back_and_not_stored(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    handed = apply(db, tags, boxes[0], "ha", "seed::42")
    assert [(a.tag, a.tokens) for a in handed] == [(SEED, {"value": "42"})]
    assert texts(db, boxes[0]) == ["ha"]
    assert tags.ephemeral(SEED, ["ha", "seed::42"]) == [{"value": "42"}]


def test_a_service_replaces_a_unique_tag_and_adds_to_others(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    for name in ("linux", "bsd", "bsd"):
        db.run(lambda tx, name=name: tags.set(tx, OS, boxes[0], name=name))
    for ip in ("1", "2", "2"):
        db.run(lambda tx, ip=ip: tags.set(tx, IP, boxes[0], l3="n", ip=ip))
    assert texts(db, boxes[0]) == ["os::bsd", "staticIp::n::1", "staticIp::n::2"]
    db.run(lambda tx: tags.remove(tx, IP, boxes[0], ip=1))
    assert texts(db, boxes[0]) == ["os::bsd", "staticIp::n::2"]
    db.run(lambda tx: tags.remove(tx, IP, boxes[0]))
    db.run(lambda tx: tags.remove(tx, IP, boxes[0]))
    assert texts(db, boxes[0]) == ["os::bsd"]


def test_the_tags_of_many_resources_are_one_statement(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    for n, uuid in enumerate(boxes[:2]):
        apply(db, tags, uuid, f"hostname::n{n}")
    seen: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    found = db.run(lambda tx: tags.of_many(tx, HOSTNAME, boxes))
    assert found == {boxes[0]: [{"name": "n0"}], boxes[1]: [{"name": "n1"}], boxes[2]: []}
    assert len([s for s in seen if s.startswith("SELECT")]) == 1


def test_tags_go_with_their_resource(db: SqlDatabase, tags: Tags, boxes: Any) -> None:
    apply(db, tags, boxes[0], "ha", user_tags=["blue"])
    apply(db, tags, boxes[1], "ha")
    db.run(lambda tx: resource.remove(tx, boxes[0]))
    assert (texts(db, boxes[0]), texts(db, boxes[0], "user"), texts(db, boxes[1])) == ([], [], ["ha"])


def test_two_formats_on_one_type_that_match_one_text_are_refused(tags: Tags) -> None:
    with pytest.raises(
        DeclarationError, match=r"plugin: the box tags 'os::\{x\}::\{y\}' and 'os::\{name\}' match"
    ):
        tags.declare("plugin", [SystemTag("os::{x}::{y}", "box", "")])
    tags.declare("plugin", [SystemTag("os::{x}::{y}", "rack", "")])


def test_a_thousand_declarations_do_not_slow_down_recognition(tags: Tags) -> None:
    made = Tags(UuidSource(SystemClock(), SystemRng()))
    names = random.Random(1).sample(range(10**6), 60)
    made.declare("box", [SystemTag(f"tag{n:06d}::{{value}}", "box", "") for n in names])
    assert made.parse("box", f"tag{names[-1]:06d}::x").tokens == {"value": "x"}
