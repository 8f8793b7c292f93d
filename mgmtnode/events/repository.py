"""The only SQL on the event log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy import text as sql

from mgmtnode.bus.message import Event
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import event_log, job, resource
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import Data

Position = tuple[int, int]

# Where an event stands in the log: its transaction, but never before the event before it on the resource, whose
# transaction may have been begun later and have committed first.
PREVIOUS = select(event_log.c.xid).where(
    event_log.c.resource_uuid == bindparam("of"), event_log.c.revision == bindparam("previous")
)
PLACE = func.greatest(sql("pg_current_xact_id()::text::bigint"), PREVIOUS.scalar_subquery())

# Written once: building a statement costs more than running it, and every change of anything runs these.
APPEND = {
    "sqlite": insert(event_log).values(xid=0),
    "postgresql": insert(event_log).values(xid=PLACE),
}
RAISE_REVISION = (
    update(resource)
    .where(resource.c.uuid == bindparam("of"))
    .values(revision=resource.c.revision + 1, updated_at=bindparam("at"))
    .returning(resource.c.revision, resource.c.type, resource.c.account_uuid)
)


class LoggedEvent(Data):
    """``id`` is a position in the log; ``revision`` counts the events of the resource from 1."""

    id: str
    name: str
    resource_type: str
    resource_uuid: str
    revision: int
    account_uuid: str
    at: datetime
    body: msgspec.Raw


def append(tx: Tx, event: Event) -> None:
    """Raises the resource's revision and logs the event."""
    row = _job_row(tx, event) if event.name.startswith("job.") else _resource_row(tx, event)
    row |= {"resource_uuid": event.resource_uuid, "name": event.name, "at": tx.now}
    if tx.dialect == "postgresql":
        row |= {"of": event.resource_uuid, "previous": row["revision"] - 1}
    tx.execute(APPEND[tx.dialect], row | {"body": msgspec.json.encode(event).decode()})


def read(tx: Tx, after: Position | None, limit: int, caller: Caller) -> list[LoggedEvent]:
    """Up to ``limit`` events after a position that the caller may see, in the order of the log."""
    where = _settled(tx)
    if after:
        where = and_(where, tuple_(event_log.c.xid, event_log.c.seq) > tuple_(*after))
    if not caller.admin:
        where = and_(where, event_log.c.account_uuid == caller.account_uuid)
    rows = tx.execute(select(event_log).where(where).order_by(event_log.c.xid, event_log.c.seq).limit(limit))
    return [_logged(row._mapping) for row in rows]


def newest(tx: Tx) -> str:
    last = select(event_log.c.xid, event_log.c.seq).where(_settled(tx))
    row = tx.execute(last.order_by(event_log.c.xid.desc(), event_log.c.seq.desc()).limit(1)).first()
    return f"{row[0]}-{row[1]}" if row else "0-0"


def oldest(tx: Tx) -> str | None:
    first = select(event_log.c.xid, event_log.c.seq).order_by(event_log.c.xid, event_log.c.seq)
    row = tx.execute(first.limit(1)).first()
    return f"{row[0]}-{row[1]}" if row else None


def forget(tx: Tx, before: datetime, limit: int) -> int:
    """Deletes events older than ``before``; returns how many."""
    old = select(event_log.c.seq).where(event_log.c.at < before).order_by(event_log.c.seq).limit(limit)
    return tx.execute(delete(event_log).where(event_log.c.seq.in_(old))).rowcount


def _resource_row(tx: Tx, event: Event) -> dict[str, Any]:
    row = tx.execute(RAISE_REVISION, {"of": event.resource_uuid, "at": tx.now}).one()
    return {"revision": row[0], "resource_type": row[1], "account_uuid": row[2]}


def _job_row(tx: Tx, event: Event) -> dict[str, Any]:
    if tx.work is not None and tx.work.job_uuid == event.resource_uuid:
        return {"revision": 1, "resource_type": "job", "account_uuid": tx.work.account_uuid}
    account = tx.execute(select(job.c.account_uuid).where(job.c.uuid == event.resource_uuid)).scalar_one()
    return {"revision": 1, "resource_type": "job", "account_uuid": account}


def _settled(tx: Tx) -> Any:
    """Only rows no open transaction can still slip in front of: positions never appear behind a reader."""
    if tx.dialect != "postgresql":
        return sql("1=1")
    return event_log.c.xid < sql("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")


def _logged(row: Any) -> LoggedEvent:
    values = {field: row[field] for field in LoggedEvent.__struct_fields__ if field not in ("id", "body")}
    return LoggedEvent(id=f"{row['xid']}-{row['seq']}", body=msgspec.Raw(row["body"].encode()), **values)
