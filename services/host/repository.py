"""The only SQL on hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mgmtnode.contracts.host import HOST, HOST_ADDRESS_TAKEN, Host, HostStatus
from mgmtnode.contracts.hypervisor import HostAddress
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.query.engine import Query
from services.host.models import host

CHUNK = 500


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host as this node works with it: what the API shows, and who answered there last."""

    host: Host
    identity: str

    @property
    def address(self) -> HostAddress:
        return HostAddress(
            uuid=self.host.uuid,
            hypervisor=self.host.hypervisor,
            management_ip=self.host.management_ip,
            parameters=self.host.parameters,
        )


IDENTITIES = select(host.c.uuid, host.c.identity)
IDENTITY = select(host.c.identity).where(host.c.uuid == bindparam("which"))
SAME_IDENTITY = select(host.c.uuid).where(
    host.c.identity == bindparam("one"), host.c.uuid != bindparam("but")
)
UPDATE = update(host).where(host.c.uuid == bindparam("which"))


class HostRepository:
    """``changed(tx, host)`` is told of every change of a host's row, in the transaction that makes it."""

    def __init__(self, query: Query, changed: Callable[[Tx, Host], None]) -> None:
        self._query, self._changed = query, changed

    def get(self, tx: Tx, uuid: str) -> Host:
        """Raises core.not-found."""
        found: Host = self._query.get(tx, HOST, uuid)
        return found

    def record(self, tx: Tx, uuid: str) -> HostRecord:
        """Raises core.not-found."""
        identity = tx.execute(IDENTITY, {"which": uuid}).scalar()
        return HostRecord(self.get(tx, uuid), str(identity or ""))

    def records(self, tx: Tx) -> list[HostRecord]:
        """All hosts."""
        rows = tx.execute(IDENTITIES).mappings()
        identities = {str(row["uuid"]): str(row["identity"]) for row in rows}
        return [HostRecord(each, identities.get(each.uuid, "")) for each in self._query.find(tx, HOST)]

    def check_address(self, tx: Tx, management_ip: str, *, but: str = "") -> None:
        """Raises host.address-taken if a host other than ``but`` has the address."""
        found = select(host.c.uuid).where(host.c.management_ip == management_ip)
        uuid = tx.execute(found).scalar()
        if uuid is not None and str(uuid) != but:
            raise _taken(management_ip, str(uuid))

    def with_identity(self, tx: Tx, identity: str, *, but: str) -> str | None:
        """Another host at which the same agent answers."""
        return tx.execute(SAME_IDENTITY, {"one": identity, "but": but}).scalar()

    def insert(self, tx: Tx, account: str, new: Host) -> Host:
        """Makes the row from ``new``; its times are the transaction's. Raises host.address-taken."""
        resource.create(tx, HOST, new.uuid, new.name, account=account, description=new.description)
        values = {name: getattr(new, name) for name in new.__struct_fields__ if name in host.c}
        try:
            tx.execute(insert(host).values(identity="", **values))
        except IntegrityError as exc:
            if "management_ip" in str(exc.orig):
                raise _taken(new.management_ip) from exc
            raise
        return self.get(tx, new.uuid)

    def change(self, tx: Tx, uuid: str, **values: Any) -> Host:
        """Changes fields of the core row and of the host's own. Raises host.address-taken."""
        own = {name: value for name, value in values.items() if name in host.c}
        if own:
            try:
                tx.execute(UPDATE, own | {"which": uuid})
            except IntegrityError as exc:
                raise _taken(str(values.get("management_ip"))) from exc
        resource.change(tx, HOST, uuid, **values)
        after = self.get(tx, uuid)
        self._changed(tx, after)
        return after

    def disconnected(self, tx: Tx, uuid: str) -> bool:
        """Connected → Disconnected; False if it was not Connected (any more)."""
        mine = update(host).where(host.c.uuid == uuid, host.c.status == HostStatus.CONNECTED)
        if not tx.execute(mine.values(status=HostStatus.DISCONNECTED)).rowcount:
            return False
        resource.change(tx, HOST, uuid)
        self._changed(tx, self.get(tx, uuid))
        return True

    def seen(self, tx: Tx, uuids: Sequence[str]) -> None:
        """These hosts answered a moment ago."""
        for start in range(0, len(uuids), CHUNK):
            some = update(host).where(host.c.uuid.in_(uuids[start : start + CHUNK]))
            tx.execute(some.values(last_seen_at=tx.now))

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(host).where(host.c.uuid == uuid))
        resource.remove(tx, uuid)


def _taken(management_ip: str, by: str = "") -> ApiError:
    what = f"a host with the management address {management_ip} exists"
    return HOST_ADDRESS_TAKEN.error(what, resource=by or None)
