"""The only SQL on the event log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    Integer,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.sql.dml import ReturningUpdate

from mgmtnode.bus.message import Event
from mgmtnode.db.generation import SHIFT
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import event_log, job, resource
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import Data

Position = tuple[int, int]

# Where an event stands in the log: its transaction, but never before the event before it on the resource, whose
# transaction may have been begun later and have committed first. The row says where that is, which one statement can
# only know from the row it has locked: all else it sees as it was before it waited. A restored database may count its
# transactions from anywhere, so each of its lives has positions of its own, above those before (db/generation.py).
LIFE = f"coalesce((select (db_generation - 1) << {SHIFT} from mn_cluster), 0)"
XID = {
    "sqlite": literal_column("0", BigInteger),
    "postgresql": literal_column(f"(pg_current_xact_id()::text::bigint + {LIFE})", BigInteger),
}
PLACE = {"sqlite": XID["sqlite"], "postgresql": func.greatest(resource.c.logged_xid, XID["postgresql"])}
COLUMNS = ("resource_uuid", "revision", "xid", "resource_type", "account_uuid")
GIVEN = {"named": "name", "at": "at", "body": "body"}


def _raise_revision(place: ColumnElement[int]) -> ReturningUpdate[Any]:
    raised = {"revision": resource.c.revision + 1, "logged_xid": place, "updated_at": bindparam("at")}
    return (
        update(resource)
        .where(resource.c.uuid == bindparam("of"))
        .values(raised)
        .returning(
            resource.c.uuid,
            resource.c.revision,
            resource.c.logged_xid,
            resource.c.type,
            resource.c.account_uuid,
        )
    )


def _raise_and_append(place: ColumnElement[int]) -> Insert:
    """PostgreSQL does in one statement what SQLite does in two. Where there is no such resource the row has no
    revision, and is refused."""
    raised = _raise_revision(place).cte("raised")
    columns = [*COLUMNS, "name", "at", "body"]
    # Not called as a column of the resource is: SQLAlchemy would set that, too.
    given = [bindparam(key, type_=event_log.c[name].type) for key, name in GIVEN.items()]
    always = select(literal_column("1")).subquery("always")
    row = select(*raised.c, *given).select_from(always.outerjoin(raised, true()))
    return insert(event_log).from_select(columns, row, include_defaults=False)


# Written once: building a statement costs more than running it, and every change of anything runs these.
RAISE_REVISION = _raise_revision(PLACE["sqlite"])
RAISE_AND_APPEND = _raise_and_append(PLACE["postgresql"])
APPEND = insert(event_log)
# Only rows no open transaction can still slip in front of: positions never appear behind a reader.
SETTLED: dict[str, ColumnElement[bool]] = {
    "sqlite": true(),
    "postgresql": event_log.c.xid < sql(f"pg_snapshot_xmin(pg_current_snapshot())::text::bigint + {LIFE}"),
}
_AFTER = tuple_(event_log.c.xid, event_log.c.seq) > tuple_(
    bindparam("after_xid", type_=BigInteger), bindparam("after_seq", type_=BigInteger)
)
_READ = {
    dialect: select(event_log)
    .where(settled, _AFTER)
    .order_by(event_log.c.xid, event_log.c.seq)
    .limit(bindparam("most", type_=Integer))
    for dialect, settled in SETTLED.items()
}
READ = {(dialect, True): read for dialect, read in _READ.items()} | {
    (dialect, False): read.where(event_log.c.account_uuid == bindparam("mine"))
    for dialect, read in _READ.items()
}
NEWEST = {
    dialect: select(event_log.c.xid, event_log.c.seq)
    .where(settled)
    .order_by(event_log.c.xid.desc(), event_log.c.seq.desc())
    .limit(1)
    for dialect, settled in SETTLED.items()
}
BEFORE_ALL: Position = (-1, -1)
APPEND_FIRST = {dialect: insert(event_log).values(xid=xid).inline() for dialect, xid in XID.items()}


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
    """Raises the resource's revision and logs the event. A job has no revision: its end is its only event."""
    row = {"name": event.name, "at": tx.now, "body": msgspec.json.encode(event).decode()}
    if event.name.startswith("job."):
        tx.later(APPEND_FIRST[tx.dialect], row | _of_job(tx, event.resource_uuid))
    elif tx.dialect == "postgresql":
        values = {"of": event.resource_uuid} | {key: row[name] for key, name in GIVEN.items()}
        tx.later(RAISE_AND_APPEND, values)
    else:
        raised = tx.execute(RAISE_REVISION, {"of": event.resource_uuid, "at": tx.now}).one()
        tx.execute(APPEND, row | dict(zip(COLUMNS, raised, strict=True)))


def read(tx: Tx, after: Position | None, limit: int, caller: Caller) -> list[LoggedEvent]:
    """Up to ``limit`` events after a position that the caller may see, in the order of the log."""
    xid, seq = after or BEFORE_ALL
    values = {"after_xid": xid, "after_seq": seq, "most": limit, "mine": caller.account_uuid}
    if caller.admin:
        del values["mine"]
    rows = tx.execute(READ[tx.dialect, caller.admin], values)
    return [_logged(row._mapping) for row in rows]


def newest(tx: Tx) -> str:
    row = tx.execute(NEWEST[tx.dialect]).first()
    return f"{row[0]}-{row[1]}" if row else "0-0"


def oldest(tx: Tx) -> str | None:
    first = select(event_log.c.xid, event_log.c.seq).order_by(event_log.c.xid, event_log.c.seq)
    row = tx.execute(first.limit(1)).first()
    return f"{row[0]}-{row[1]}" if row else None


def forget(tx: Tx, before: datetime, limit: int) -> int:
    """Deletes events older than ``before``; returns how many."""
    old = select(event_log.c.seq).where(event_log.c.at < before).order_by(event_log.c.seq).limit(limit)
    return tx.execute(delete(event_log).where(event_log.c.seq.in_(old))).rowcount


def _of_job(tx: Tx, uuid: str) -> dict[str, Any]:
    if tx.work is not None and tx.work.job_uuid == uuid:
        account = tx.work.account_uuid
    else:
        account = tx.execute(select(job.c.account_uuid).where(job.c.uuid == uuid)).scalar_one()
    return {"resource_uuid": uuid, "revision": 1, "resource_type": "job", "account_uuid": account}


def _logged(row: Any) -> LoggedEvent:
    values = {field: row[field] for field in LoggedEvent.__struct_fields__ if field not in ("id", "body")}
    return LoggedEvent(id=f"{row['xid']}-{row['seq']}", body=msgspec.Raw(row["body"].encode()), **values)
