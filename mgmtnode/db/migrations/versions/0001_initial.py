"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import JsonOf, UtcTime, UuidText, words

revision = "core_0001"
down_revision = None
branch_labels = "core"
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resource",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("name", words(255), nullable=False),
        sa.Column("unique_name", words(255)),
        sa.Column("description", words(), server_default="", nullable=False),
        sa.Column("account_uuid", UuidText, nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "logged_xid",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="where its last event stands in the log",
        ),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_resource"),
        sa.UniqueConstraint("type", "unique_name", name="uq_resource_type_unique_name"),
    )
    op.create_index("ix_resource_account_uuid_type_uuid", "resource", ["account_uuid", "type", "uuid"])
    op.create_index("ix_resource_type_created_at_uuid", "resource", ["type", "created_at", "uuid"])
    op.create_index(
        "ix_resource_type_lower_name", "resource", ["type", sa.literal_column("lower(name)"), "uuid"]
    )
    op.create_index("ix_resource_type_name_uuid", "resource", ["type", "name", "uuid"])
    op.create_table(
        "job",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("account_uuid", UuidText, nullable=False),
        sa.Column("caller", sa.Text(), nullable=False, comment="who asked: a Caller as JSON"),
        sa.Column("idempotency_key", sa.String(length=255)),
        sa.Column("request_hash", sa.String(length=64)),
        sa.Column("parent_uuid", UuidText),
        sa.Column("api", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner_node", sa.String(length=128)),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "origin",
            sa.String(length=64),
            server_default="",
            nullable=False,
            comment="type where a cascading deletion began",
        ),
        sa.Column(
            "step_no",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="first step that is not journalled as done",
        ),
        sa.Column("step", sa.String(length=64), comment="name of the step last journalled"),
        sa.Column("steps", JsonOf(), comment="what each step did, as of the last commit"),
        sa.Column("progress", sa.Integer(), server_default="0", nullable=False, comment="percent"),
        sa.Column("journal", sa.Text(), comment="flow, version and context as JSON; emptied at the end"),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "handovers",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="how often another owner took it up",
        ),
        sa.Column("deadline_at", UtcTime(), nullable=False),
        sa.Column("accepted_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime()),
        sa.Column("ended_at", UtcTime()),
        sa.Column("result", JsonOf(), comment="the reply, once Succeeded"),
        sa.Column("error", JsonOf(), comment="what went wrong, once Failed or Cancelled"),
        sa.Column(
            "trace",
            sa.String(length=32),
            server_default="",
            nullable=False,
            comment="id of the request it is for",
        ),
        sa.Column(
            "span",
            sa.String(length=16),
            server_default="",
            nullable=False,
            comment="its parent, if spans are recorded",
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_job"),
        sa.UniqueConstraint("account_uuid", "idempotency_key", name="uq_job_account_uuid_idempotency_key"),
        sa.UniqueConstraint("uuid", name="uq_job_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_account_uuid_seq", "job", ["account_uuid", "seq"])
    op.create_index("ix_job_ended_at", "job", ["ended_at"])
    op.create_index(
        "ix_job_open_resource_seq",
        "job",
        ["resource_uuid", "seq"],
        postgresql_where=sa.text("state in ('Pending', 'Running', 'RollingBack')"),
        sqlite_where=sa.text("state in ('Pending', 'Running', 'RollingBack')"),
    )
    op.create_index(
        "ix_job_open_slot_seq",
        "job",
        ["slot", "seq"],
        postgresql_where=sa.text("state in ('Pending', 'Running', 'RollingBack')"),
        sqlite_where=sa.text("state in ('Pending', 'Running', 'RollingBack')"),
    )
    op.create_index("ix_job_parent_uuid", "job", ["parent_uuid"])
    op.create_index("ix_job_resource_uuid", "job", ["resource_uuid"])
    op.create_table(
        "claim",
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("job_uuid", UuidText, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("resource_uuid", name="pk_claim"),
    )
    op.create_index("ix_claim_job_uuid", "claim", ["job_uuid"])
    op.create_table(
        "pool",
        sa.Column(
            "resource_uuid", UuidText, nullable=False, comment="whose pool: a host, an account, an IP range"
        ),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False, comment="never below used"),
        sa.Column(
            "target",
            sa.BigInteger(),
            nullable=False,
            comment="the limit for new reservations; a shrunk pool drains to it",
        ),
        sa.Column("used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "allocations",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="how many hold some of it: counted here, since every placement asks",
        ),
        sa.CheckConstraint("used <= total", name="ck_pool_within"),
        sa.CheckConstraint("used >= 0", name="ck_pool_positive"),
        sa.PrimaryKeyConstraint("resource_uuid", "kind", name="pk_pool"),
    )
    op.create_table(
        "allocation",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("job_uuid", UuidText),
        sa.Column("resource_uuid", UuidText, nullable=False, comment="who holds it"),
        sa.Column("pool_uuid", UuidText, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column(
            "unit", sa.String(length=64), comment="which one, where units are told apart: an IP address"
        ),
        sa.Column(
            "state",
            sa.String(length=16),
            nullable=False,
            comment="HELD, LIVE or QUARANTINED; freed rows are gone",
        ),
        sa.Column(
            "returned",
            sa.Boolean(),
            server_default=sa.text("(false)"),
            nullable=False,
            comment="quarantined, and given back by its holder meanwhile: free when the debt is settled",
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_allocation"),
    )
    op.create_index("ix_allocation_job_uuid", "allocation", ["job_uuid"])
    op.create_index("ix_allocation_pool_uuid_kind", "allocation", ["pool_uuid", "kind"])
    op.create_index("ix_allocation_resource_uuid", "allocation", ["resource_uuid"])
    op.create_index(
        "uq_allocation_pool_unit",
        "allocation",
        ["pool_uuid", "unit"],
        unique=True,
        postgresql_where=sa.text("unit is not null"),
        sqlite_where=sa.text("unit is not null"),
    )
    op.create_table(
        "cleanup_debt",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("host_uuid", UuidText, nullable=False),
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("job_uuid", UuidText, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_cleanup_debt"),
        sa.UniqueConstraint("host_uuid", "resource_uuid", name="uq_cleanup_debt_host_uuid_resource_uuid"),
    )
    op.create_index("ix_cleanup_debt_resource_uuid", "cleanup_debt", ["resource_uuid"])
    op.create_table(
        "event",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "xid",
            sa.BigInteger(),
            nullable=False,
            comment="writing transaction; readers stay below the oldest open one",
        ),
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("account_uuid", UuidText, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
        sa.UniqueConstraint("resource_uuid", "revision", name="uq_event_resource_uuid_revision"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_at", "event", ["at"])
    op.create_index("ix_event_xid_seq", "event", ["xid", "seq"])
    op.create_table(
        "mn_cluster",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("ring_version", sa.BigInteger(), nullable=False),
        sa.Column(
            "db_generation",
            sa.BigInteger(),
            nullable=False,
            comment="lives of the database, see db.generation",
        ),
        sa.Column(
            "origin",
            sa.String(length=64),
            comment="what tells this life from others; null: only an operator can",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mn_cluster"),
    )
    op.create_table(
        "mn_node",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column(
            "label",
            sa.String(length=64),
            server_default="",
            nullable=False,
            comment="how its connections are called",
        ),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_mn_node"),
    )
    op.create_table(
        "mn_lease",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("hb_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("inflight", sa.Integer(), server_default="0", nullable=False),
        sa.Column("queued", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_mn_lease"),
        comment="apart from mn_node, so that heartbeats never wait for, or hold up, a change of membership",
    )
    op.create_table(
        "ring_slot",
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=128)),
        sa.Column("incarnation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("target", sa.String(length=128), comment="the node it is to be handed to"),
        sa.PrimaryKeyConstraint("slot", name="pk_ring_slot"),
    )
    op.create_table(
        "event_reader",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "position", sa.String(length=40), nullable=False, comment="of the last event that was told on"
        ),
        sa.PrimaryKeyConstraint("name", name="pk_event_reader"),
    )
    op.create_table(
        "share",
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column(
            "account_uuid", sa.String(length=36), nullable=False, comment="an account, or * for everybody"
        ),
        sa.ForeignKeyConstraint(
            ["resource_uuid"], ["resource.uuid"], name="fk_share_resource_uuid", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("resource_uuid", "account_uuid", name="pk_share"),
    )
    op.create_index("ix_share_account_uuid_resource_uuid", "share", ["account_uuid", "resource_uuid"])
    op.create_table(
        "tag",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="system or user"),
        sa.Column("text", words(1024), nullable=False),
        sa.Column("inherent", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_uuid"], ["resource.uuid"], name="fk_tag_resource_uuid", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_tag"),
        sa.UniqueConstraint("resource_uuid", "kind", "text", name="uq_tag_resource_uuid_kind_text"),
    )
    op.create_index("ix_tag_kind_text_resource_uuid", "tag", ["kind", "text", "resource_uuid"])
    op.create_table(
        "global_config",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column(
            "value", sa.Text(), nullable=False, comment="in force: what an operator set, or the default"
        ),
        sa.Column("changed", sa.Boolean(), nullable=False, comment="an operator set it"),
        sa.Column("default", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("low", sa.Float()),
        sa.Column("high", sa.Float()),
        sa.Column("choices", JsonOf(), nullable=False),
        sa.Column("overridable", JsonOf(), nullable=False),
        sa.ForeignKeyConstraint(
            ["uuid"], ["resource.uuid"], name="fk_global_config_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_global_config"),
    )
    op.create_table(
        "resource_config",
        sa.Column("resource_uuid", UuidText, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_uuid"], ["resource.uuid"], name="fk_resource_config_resource_uuid", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("resource_uuid", "name", name="pk_resource_config"),
    )
    op.create_index("ix_resource_config_name", "resource_config", ["name"])
    op.create_table(
        "job_reply",
        sa.Column("job_uuid", UuidText, nullable=False),
        sa.Column(
            "reply_to",
            sa.String(length=255),
            nullable=False,
            comment="the AMQP queue that hears of the job's end",
        ),
        sa.Column("correlation_id", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["job_uuid"], ["job.uuid"], name="fk_job_reply_job_uuid", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_uuid", "reply_to", "correlation_id", name="pk_job_reply"),
    )
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER job_terminal BEFORE UPDATE ON job WHEN OLD.state IN ('Succeeded', 'Failed', 'Cancelled') BEGIN SELECT RAISE(ABORT, 'a terminal job never changes'); END"
        )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION job_terminal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a terminal job never changes'; END $$"
        )
        op.execute(
            "CREATE TRIGGER job_terminal BEFORE UPDATE ON job FOR EACH ROW WHEN (OLD.state IN ('Succeeded', 'Failed', 'Cancelled')) EXECUTE FUNCTION job_terminal()"
        )
