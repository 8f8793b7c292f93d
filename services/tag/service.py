"""Tags: add, change and take away on resources that exist. Which tags there are is declared by other
services."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.tag import (
    TAG,
    CreateSystemTag,
    CreateUserTag,
    DeleteTag,
    Tag,
    TagChanged,
    TagCreated,
    TagDeleted,
    UpdateSystemTag,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND
from mgmtnode.jobs.job import Caller
from mgmtnode.service import Service, job, validate


class TagService(Service):
    @job()
    def create_user(self, tx: Tx, msg: CreateUserTag) -> Tag:
        uuid = self.node.tags.add_user(tx, _type_of(tx, msg.resource_uuid), msg.resource_uuid, msg.text)
        return self._created(tx, uuid)

    @validate
    def check_system(self, tx: Tx, msg: CreateSystemTag, caller: Caller) -> None:
        self.node.tags.check(_type_of(tx, msg.resource_uuid), [msg.text], caller.admin)

    @job()
    def create_system(self, tx: Tx, msg: CreateSystemTag) -> Tag:
        kind = _type_of(tx, msg.resource_uuid)
        uuid = self.node.tags.add_system(tx, kind, msg.resource_uuid, msg.text, admin=_admin(tx))
        return self._created(tx, uuid)

    @job()
    def update(self, tx: Tx, msg: UpdateSystemTag) -> Tag:
        self.node.tags.change(tx, msg.resource_uuid, msg.uuid, msg.text, admin=_admin(tx))
        tag: Tag = self.node.query.get(tx, TAG, msg.uuid)
        tx.record(TagChanged(resource_uuid=tag.resource_uuid, tag=tag))
        return tag

    @job()
    def delete(self, tx: Tx, msg: DeleteTag) -> Nothing:
        self.node.tags.delete(tx, msg.resource_uuid, msg.uuid, admin=_admin(tx))
        tx.record(TagDeleted(resource_uuid=msg.resource_uuid, tag_uuid=msg.uuid))
        return NOTHING

    def _created(self, tx: Tx, uuid: str) -> Tag:
        tag: Tag = self.node.query.get(tx, TAG, uuid)
        tx.record(TagCreated(resource_uuid=tag.resource_uuid, tag=tag))
        return tag


def _admin(tx: Tx) -> bool:
    return tx.caller is not None and tx.caller.admin


def _type_of(tx: Tx, uuid: str) -> str:
    kind = resource.type_of(tx, uuid)
    if kind is None:
        raise NOT_FOUND.error(f"there is no resource {uuid}", resource=uuid)
    return kind
