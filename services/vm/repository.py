"""The only SQL on VMs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Executable, bindparam, delete, insert, select, update

from mgmtnode.contracts.vm import VM, Vm, VmState
from mgmtnode.contracts.vm_events import VmStateChanged
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import claim
from mgmtnode.db.tables import resource as core
from mgmtnode.errors import NOT_FOUND
from mgmtnode.query.engine import Query
from services.vm.models import vm
from services.vm.state import check_transition


class VmRow(msgspec.Struct, frozen=True):
    """A VM without its name and networks."""

    uuid: str
    state: VmState
    cpu: int
    memory: int
    hypervisor: str
    zone_uuid: str | None
    cluster_uuid: str | None
    host_uuid: str | None
    last_host_uuid: str | None
    instance_offering_uuid: str | None


class Placed(msgspec.Struct, frozen=True):
    """Where a VM is recorded, in which ``revision`` of it. ``busy``: a job works on it."""

    state: VmState
    host_uuid: str | None
    revision: int
    busy: bool


ROW = tuple(vm.c[field] for field in VmRow.__struct_fields__)
BUSY = select(claim.c.resource_uuid).where(claim.c.resource_uuid == vm.c.uuid).exists()
PLACED = select(vm.c.uuid, vm.c.state, vm.c.host_uuid, core.c.revision, BUSY).join(
    core, core.c.uuid == vm.c.uuid
)
PLACED_ON = PLACED.where(vm.c.host_uuid == bindparam("host"))
PLACED_OF = PLACED.where(vm.c.uuid.in_(bindparam("these", expanding=True)))
CHUNK = 500

# Written once: building a statement costs more than running it.
SELECT = select(*ROW).where(vm.c.uuid == bindparam("which"))
ON_HOST = select(*ROW).where(vm.c.host_uuid == bindparam("host")).order_by(vm.c.uuid)
DESTROYED = (
    select(vm.c.uuid)
    .where(vm.c.state == VmState.DESTROYED, vm.c.destroyed_at < bindparam("moment"))
    .where(vm.c.uuid > bindparam("after"))
    .order_by(vm.c.uuid)
    .limit(bindparam("most"))
)
INSERT = insert(vm)
DELETE = delete(vm).where(vm.c.uuid == bindparam("which"))
UPDATE = update(vm).where(vm.c.uuid == bindparam("which"))
MOVE = (
    UPDATE.where(vm.c.state == bindparam("before"))
    .values(state=bindparam("after", type_=vm.c.state.type))
    .returning(vm.c.host_uuid)
)


class VmRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def inventory(self, tx: Tx, uuid: str) -> Vm:
        found: Vm = self._query.get(tx, VM, uuid)
        return found

    def get(self, tx: Tx, uuid: str) -> VmRow:
        """Raises core.not-found."""
        row = tx.execute(SELECT, {"which": uuid}).first()
        if row is None:
            raise NOT_FOUND.error(f"there is no vm {uuid}", resource=uuid)
        return VmRow(row[0], VmState(row[1]), *row[2:])

    def insert(self, tx: Tx, uuid: str, named: dict[str, str], values: dict[str, Any]) -> None:
        """``named``: name, description and account of its resource row."""
        resource.create(
            tx, VM, uuid, named["name"], account=named["account"], description=named["description"]
        )
        tx.later(INSERT, {"uuid": uuid, **values})

    def change(self, tx: Tx, uuid: str, **values: Any) -> None:
        tx.later(UPDATE, {"which": uuid, **values})

    def move(self, tx: Tx, row: VmRow, after: VmState, *, cause: str = "api", **values: Any) -> None:
        """Changes the state, and what goes with it, and records that. Raises vm.bad-state."""
        check_transition(row.state, after, row.uuid)
        tx.later(UPDATE, {"which": row.uuid, "state": after, **values})
        host = values.get("host_uuid", row.host_uuid)
        tx.record(
            VmStateChanged(resource_uuid=row.uuid, before=row.state, after=after, host_uuid=host, cause=cause)
        )

    def move_from(self, tx: Tx, uuid: str, before: VmState, after: VmState) -> None:
        """The same for a VM that was left in ``before``, in one statement. Raises vm.bad-state, core.not-found."""
        check_transition(before, after, uuid)
        moved = tx.execute(MOVE, {"which": uuid, "before": before, "after": after}).first()
        if moved is None:
            self.move(tx, self.get(tx, uuid), after)
            return
        change = VmStateChanged(
            resource_uuid=uuid, before=before, after=after, host_uuid=moved[0], cause="api"
        )
        tx.record(change)

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.later(DELETE, {"which": uuid})
        resource.remove(tx, uuid)

    def on_host(self, tx: Tx, host_uuid: str) -> list[VmRow]:
        rows = tx.execute(ON_HOST, {"host": host_uuid})
        return [VmRow(row[0], VmState(row[1]), *row[2:]) for row in rows]

    def placed_on(self, tx: Tx, host_uuid: str) -> dict[str, Placed]:
        """The VMs of a host, by uuid."""
        return _placed(tx, PLACED_ON, {"host": host_uuid})

    def placed(self, tx: Tx, uuids: Sequence[str]) -> dict[str, Placed]:
        """Where those of the VMs are that exist."""
        found: dict[str, Placed] = {}
        for start in range(0, len(uuids), CHUNK):
            found |= _placed(tx, PLACED_OF, {"these": list(uuids[start : start + CHUNK])})
        return found

    def destroyed_before(self, tx: Tx, moment: datetime, *, after: str, limit: int) -> list[str]:
        """The destroyed ones, by uuid, above ``after``."""
        rows = tx.execute(DESTROYED, {"moment": moment, "after": after, "most": limit})
        return [str(r[0]) for r in rows]


def _placed(tx: Tx, statement: Executable, asked: dict[str, Any]) -> dict[str, Placed]:
    rows = tx.execute(statement, asked)
    return {str(r[0]): Placed(VmState(r[1]), r[2], int(r[3]), bool(r[4])) for r in rows}
