"""The core tables (``docs/adr/0003``, and the cluster protocol): resources, jobs, claims, the ledger, the ring, events.

Only the core's own repositories write them; a service's tables are in its ``models.py``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    text,
)

from mgmtnode.db.base import JsonOf, UtcTime, UuidText, metadata, words
from mgmtnode.errors import Problem
from mgmtnode.jobs.job import StepRecord

Identity = BigInteger().with_variant(Integer(), "sqlite")
OPEN_STATES = "('Pending', 'Running', 'RollingBack')"
OPEN = text(f"state in {OPEN_STATES}")

resource = Table(
    "resource",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("type", String(64), nullable=False),
    Column("name", words(255), nullable=False),
    Column("unique_name", words(255)),
    Column("description", words(), nullable=False, server_default=""),
    Column("account_uuid", UuidText, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column(
        "logged_xid",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="where its last event stands in the log",
    ),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("type", "unique_name"),
    Index(None, "type", "created_at", "uuid"),
    Index(None, "type", "name", "uuid"),
    Index(None, "account_uuid", "type", "uuid"),
)
Index("ix_resource_type_lower_name", resource.c.type, func.lower(resource.c.name), resource.c.uuid)

share = Table(
    "share",
    metadata,
    Column("resource_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), primary_key=True),
    Column("account_uuid", String(36), primary_key=True, comment="an account, or * for everybody"),
    Index(None, "account_uuid", "resource_uuid"),
)

tag = Table(
    "tag",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("resource_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("kind", String(8), nullable=False, comment="system or user"),
    Column("text", words(1024), nullable=False),
    Column("inherent", Boolean, nullable=False, default=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("resource_uuid", "kind", "text"),
    Index(None, "kind", "text", "resource_uuid"),
    info={"visible_with": "resource_uuid"},
)

job = Table(
    "job",
    metadata,
    Column("seq", Identity, primary_key=True, autoincrement=True),
    Column("uuid", UuidText, nullable=False, unique=True),
    Column("account_uuid", UuidText, nullable=False),
    Column("caller", Text, nullable=False, comment="who asked: a Caller as JSON"),
    Column("idempotency_key", String(255)),
    Column("request_hash", String(64)),
    Column("parent_uuid", UuidText, index=True),
    Column("api", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("resource_uuid", UuidText, nullable=False, index=True),
    Column("slot", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner_node", String(128)),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column(
        "origin",
        String(64),
        nullable=False,
        server_default="",
        comment="type where a cascading deletion began",
    ),
    Column(
        "step_no",
        Integer,
        nullable=False,
        server_default="0",
        comment="first step that is not journalled as done",
    ),
    Column("step", String(64), comment="name of the step last journalled"),
    Column("steps", JsonOf(list[StepRecord]), comment="what each step did, as of the last commit"),
    Column("progress", Integer, nullable=False, server_default="0", comment="percent"),
    Column("journal", Text, comment="flow, version and context as JSON; emptied at the end"),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column(
        "handovers", Integer, nullable=False, server_default="0", comment="how often another owner took it up"
    ),
    Column("deadline_at", UtcTime, nullable=False),
    Column("accepted_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("result", JsonOf(), comment="the reply, once Succeeded"),
    Column("error", JsonOf(Problem), comment="what went wrong, once Failed or Cancelled"),
    Column("trace", String(32), nullable=False, server_default="", comment="id of the request it is for"),
    Column(
        "span", String(16), nullable=False, server_default="", comment="its parent, if spans are recorded"
    ),
    UniqueConstraint("account_uuid", "idempotency_key"),
    Index("ix_job_open_slot_seq", "slot", "seq", postgresql_where=OPEN, sqlite_where=OPEN),
    Index("ix_job_open_resource_seq", "resource_uuid", "seq", postgresql_where=OPEN, sqlite_where=OPEN),
    Index(None, "account_uuid", "seq"),
    Index(None, "ended_at"),
    sqlite_autoincrement=True,
)

claim = Table(
    "claim",
    metadata,
    Column("resource_uuid", UuidText, primary_key=True),
    Column("job_uuid", UuidText, nullable=False, index=True),
    Column("fence", BigInteger, nullable=False),
)

pool = Table(
    "pool",
    metadata,
    Column(
        "resource_uuid", UuidText, primary_key=True, comment="whose pool: a host, an account, an IP range"
    ),
    Column("kind", String(64), primary_key=True),
    Column("total", BigInteger, nullable=False, comment="never below used"),
    Column(
        "target",
        BigInteger,
        nullable=False,
        comment="the limit for new reservations; a shrunk pool drains to it",
    ),
    Column("used", BigInteger, nullable=False, server_default="0"),
    Column(
        "allocations",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="how many hold some of it: counted here, since every placement asks",
    ),
    CheckConstraint("used <= total", name="within"),
    CheckConstraint("used >= 0", name="positive"),
)

allocation = Table(
    "allocation",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("job_uuid", UuidText, index=True),
    Column("resource_uuid", UuidText, nullable=False, index=True, comment="who holds it"),
    Column("pool_uuid", UuidText, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("unit", String(64), comment="which one, where units are told apart: an IP address"),
    Column("state", String(16), nullable=False, comment="HELD, LIVE or QUARANTINED; freed rows are gone"),
    Column(
        "returned",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="quarantined, and given back by its holder meanwhile: free when the debt is settled",
    ),
    Index(None, "pool_uuid", "kind"),
    Index(
        "uq_allocation_pool_unit",
        "pool_uuid",
        "unit",
        unique=True,
        postgresql_where=text("unit is not null"),
        sqlite_where=text("unit is not null"),
    ),
)

cleanup_debt = Table(
    "cleanup_debt",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("host_uuid", UuidText, nullable=False),
    Column("resource_uuid", UuidText, nullable=False, index=True),
    Column("job_uuid", UuidText, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("host_uuid", "resource_uuid"),
)

event_log = Table(
    "event",
    metadata,
    Column("seq", Identity, primary_key=True, autoincrement=True),
    Column(
        "xid",
        BigInteger,
        nullable=False,
        comment="writing transaction; readers stay below the oldest open one",
    ),
    Column("resource_uuid", UuidText, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("account_uuid", UuidText, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("resource_uuid", "revision"),
    Index(None, "xid", "seq"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

cluster = Table(
    "mn_cluster",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", UuidText, nullable=False),
    Column("ring_version", BigInteger, nullable=False),
    Column("db_generation", BigInteger, nullable=False, comment="lives of the database, see db.generation"),
    Column("origin", String(64), comment="what tells this life from others; null: only an operator can"),
)

node = Table(
    "mn_node",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("address", String(255), nullable=False),
    Column("version", String(32), nullable=False),
    Column("label", String(64), nullable=False, server_default="", comment="how its connections are called"),
    Column("started_at", UtcTime, nullable=False),
)

lease = Table(
    "mn_lease",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("hb_seq", BigInteger, nullable=False, server_default="0"),
    Column("inflight", Integer, nullable=False, server_default="0"),
    Column("queued", Integer, nullable=False, server_default="0"),
    comment="apart from mn_node, so that heartbeats never wait for, or hold up, a change of membership",
)

ring_slot = Table(
    "ring_slot",
    metadata,
    Column("slot", Integer, primary_key=True),
    Column("owner", String(128)),
    Column("incarnation", BigInteger, nullable=False, server_default="0"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("target", String(128), comment="the node it is to be handed to"),
)

global_config = Table(
    "global_config",
    metadata,
    Column("uuid", UuidText, ForeignKey("resource.uuid", ondelete="RESTRICT"), primary_key=True),
    Column("category", String(64), nullable=False),
    Column("value", Text, nullable=False, comment="in force: what an operator set, or the default"),
    Column("changed", Boolean, nullable=False, default=False, comment="an operator set it"),
    Column("default", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("unit", String(64), nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("choices", JsonOf(list[str]), nullable=False),
    Column("overridable", JsonOf(list[str]), nullable=False),
    info={"resource_type": "global-config"},
)

resource_config = Table(
    "resource_config",
    metadata,
    Column("resource_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "name"),
)

job_reply = Table(
    "job_reply",
    metadata,
    Column("job_uuid", UuidText, ForeignKey("job.uuid", ondelete="CASCADE"), primary_key=True),
    Column("reply_to", String(255), primary_key=True, comment="the AMQP queue that hears of the job's end"),
    Column("correlation_id", String(255), primary_key=True),
)

event_reader = Table(
    "event_reader",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("position", String(40), nullable=False, comment="of the last event that was told on"),
)

CORE_TABLES: tuple[Table, ...] = (
    resource, share, tag, job, claim, pool, allocation, cleanup_debt, event_log,
    cluster, node, lease, ring_slot, global_config, resource_config, job_reply, event_reader,
)  # fmt: skip

TERMINAL_GUARD: dict[str, list[str]] = {
    "sqlite": [
        "CREATE TRIGGER job_terminal BEFORE UPDATE ON job WHEN OLD.state IN ('Succeeded', 'Failed', 'Cancelled') "
        "BEGIN SELECT RAISE(ABORT, 'a terminal job never changes'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION job_terminal() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'a terminal job never changes'; END $$",
        "CREATE TRIGGER job_terminal BEFORE UPDATE ON job FOR EACH ROW "
        "WHEN (OLD.state IN ('Succeeded', 'Failed', 'Cancelled')) EXECUTE FUNCTION job_terminal()",
    ],
}


def _guard(target: Table, connection: Any, **_: Any) -> None:
    for statement in TERMINAL_GUARD[connection.dialect.name]:
        connection.exec_driver_sql(statement)


event.listen(job, "after_create", _guard)
