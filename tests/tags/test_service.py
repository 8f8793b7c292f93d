"""The tag service over a real database and query engine, without bus and jobs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from mgmtnode.bus.message import Event
from mgmtnode.contracts.tag import (
    TAG,
    CreateSystemTag,
    CreateUserTag,
    DeleteTag,
    TagChanged,
    TagCreated,
    TagDeleted,
    UpdateSystemTag,
)
from mgmtnode.db import resource
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import ApiError
from mgmtnode.handlers import bind
from mgmtnode.jobs.job import SYSTEM, Caller
from mgmtnode.loader import check
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.query.engine import Query
from mgmtnode.tags.system_tag import SystemTag
from mgmtnode.tags.tags import Tags
from services.tag.manifest import manifest
from services.tag.service import TagService

HOSTNAME = SystemTag("hostname::{name}", "box", "Name")
OS = SystemTag("os::{name}", "box", "What was found on it", inherent=True)
PIN = SystemTag("pin::{cpu}", "box", "Physical CPU", admin=True)
SEED = SystemTag("seed::{value}", "box", "Used while it is made", ephemeral=True)
TENANT = Caller(account_uuid="00000000-0000-7000-8000-00000000000a")
STRANGER = Caller(account_uuid="00000000-0000-7000-8000-00000000000b")


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def call_in_tx(self, tx: Tx, msg: Any) -> Any:
        raise AssertionError("nothing is called here")

    def record(self, tx: Tx, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def query() -> Query:
    return Query([TAG], CORE_TABLES)


@pytest.fixture
def service(db: SqlDatabase, query: Query) -> TagService:
    db.hooks = Recorder()
    tags = Tags(UuidSource(SystemClock(), SystemRng()))
    tags.declare("box", [HOSTNAME, OS, PIN, SEED])
    return TagService(cast("Any", SimpleNamespace(tags=tags, query=query, db=db)))


def do(db: SqlDatabase, job: Callable[[Tx, Any], Any], msg: Any, caller: Caller = TENANT) -> Any:
    def work(tx: Tx) -> Any:
        tx.caller = caller
        return job(tx, msg)

    return db.run(work)


def refused(db: SqlDatabase, job: Callable[[Tx, Any], Any], msg: Any, caller: Caller = TENANT) -> str:
    with pytest.raises(ApiError) as raised:
        do(db, job, msg, caller)
    return raised.value.code


def events(db: SqlDatabase) -> list[Any]:
    return cast("Any", db.hooks).events  # type: ignore[no-any-return]


def test_the_loader_accepts_the_service_as_it_is(service: TagService) -> None:
    check([manifest])
    assert sorted(bind([(manifest, service)]).jobs) == [
        "tag.create-system", "tag.create-user", "tag.delete", "tag.update",
    ]  # fmt: skip


def test_tags_are_added_changed_and_taken_away_and_the_resource_tells(
    db: SqlDatabase, service: TagService, boxes: Any
) -> None:
    box = boxes[0]
    user = do(db, service.create_user, CreateUserTag(resource_uuid=box, text="blue"))
    system = do(db, service.create_system, CreateSystemTag(resource_uuid=box, text="hostname::a"))
    changed = do(db, service.update, UpdateSystemTag(resource_uuid=box, uuid=system.uuid, text="hostname::b"))
    do(db, service.delete, DeleteTag(resource_uuid=box, uuid=user.uuid))
    assert (user.kind, user.text, user.resource_type) == ("user", "blue", "box")
    assert changed == msgspec.structs.replace(system, text="hostname::b")
    assert events(db) == [
        TagCreated(resource_uuid=box, tag=user),
        TagCreated(resource_uuid=box, tag=system),
        TagChanged(resource_uuid=box, tag=changed),
        TagDeleted(resource_uuid=box, tag_uuid=user.uuid),
    ]


def test_a_tag_that_is_there_and_a_second_unique_one_are_refused(
    db: SqlDatabase, service: TagService, boxes: Any
) -> None:
    box = boxes[0]
    for job, msg in (
        (service.create_user, CreateUserTag(resource_uuid=box, text="blue")),
        (service.create_system, CreateSystemTag(resource_uuid=box, text="hostname::a")),
    ):
        do(db, job, msg)
        assert refused(db, job, msg) == "tag.exists"
    assert (
        refused(db, service.create_system, CreateSystemTag(resource_uuid=box, text="hostname::b"))
        == "tag.exists"
    )


def test_what_the_declaration_does_not_allow_is_refused(
    db: SqlDatabase, service: TagService, boxes: Any
) -> None:
    def create(text: str, caller: Caller = TENANT) -> str:
        return refused(db, service.create_system, CreateSystemTag(resource_uuid=boxes[0], text=text), caller)

    assert create("nobody::x") == "tag.unknown"
    assert create("os::linux", SYSTEM) == "tag.inherent"
    assert create("pin::3") == "tag.inherent"
    assert create("seed::3") == "tag.invalid"
    with pytest.raises(ApiError, match=r"tag\.inherent"):
        msg = CreateSystemTag(resource_uuid=boxes[0], text="pin::3")
        db.run(lambda tx: service.check_system(tx, msg, TENANT))


def test_tags_of_the_service_and_of_the_operator_stay_when_others_reach_for_them(
    db: SqlDatabase, service: TagService, boxes: Any
) -> None:
    box = boxes[0]
    db.run(lambda tx: service.node.tags.set(tx, OS, box, name="linux"))
    do(db, service.create_system, CreateSystemTag(resource_uuid=box, text="pin::3"), SYSTEM)
    found = {t.text: t.uuid for t in db.run(lambda tx: service.node.query.find(tx, TAG))}
    for text, caller in (("os::linux", SYSTEM), ("pin::3", TENANT)):
        assert (
            refused(db, service.delete, DeleteTag(resource_uuid=box, uuid=found[text]), caller)
            == "tag.inherent"
        )
        update = UpdateSystemTag(resource_uuid=box, uuid=found[text], text=text + "0")
        assert refused(db, service.update, update, caller) == "tag.inherent"
    do(db, service.delete, DeleteTag(resource_uuid=box, uuid=found["pin::3"]), SYSTEM)


def test_a_change_keeps_the_form_and_finds_only_tags_of_its_resource(
    db: SqlDatabase, service: TagService, boxes: Any
) -> None:
    tag = do(db, service.create_system, CreateSystemTag(resource_uuid=boxes[0], text="hostname::a"))
    user = do(db, service.create_user, CreateUserTag(resource_uuid=boxes[0], text="blue"))

    def update(uuid: str, text: str, box: str = boxes[0]) -> str:
        msg = UpdateSystemTag(resource_uuid=box, uuid=uuid, text=text)
        return refused(db, service.update, msg, SYSTEM)

    assert update(tag.uuid, "pin::3") == "tag.invalid"
    assert update(user.uuid, "green") == "tag.invalid"
    assert update(tag.uuid, "hostname::b", boxes[1]) == "core.not-found"
    assert refused(db, service.delete, DeleteTag(resource_uuid=boxes[1], uuid=tag.uuid)) == "core.not-found"


def test_a_tag_is_seen_with_its_resource_only(
    db: SqlDatabase, service: TagService, query: Query, boxes: Any
) -> None:
    def seen(caller: Caller) -> list[str]:
        return [t.text for t in db.run(lambda tx: query.find(tx, TAG, "kind=user", caller=caller))]

    tag = do(db, service.create_user, CreateUserTag(resource_uuid=boxes[0], text="blue"))
    assert (seen(TENANT), seen(STRANGER), seen(SYSTEM)) == (["blue"], [], ["blue"])
    with pytest.raises(ApiError, match=r"core\.not-found"):
        db.run(lambda tx: query.get(tx, TAG, tag.uuid, caller=STRANGER))
    db.run(lambda tx: resource.share_with(tx, boxes[0], STRANGER.account_uuid))
    assert seen(STRANGER) == ["blue"]
    found = db.run(lambda tx: query.find(tx, TAG, f"resource_uuid={boxes[0]}", "text~=bl%", caller=STRANGER))
    assert [t.uuid for t in found] == [tag.uuid]
