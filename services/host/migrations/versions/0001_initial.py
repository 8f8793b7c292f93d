"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import JsonOf, UtcTime, UuidText, words

revision = "host_0001"
down_revision = None
branch_labels = "host"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "host",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("cluster_uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("management_ip", words(255), nullable=False),
        sa.Column("hypervisor", words(255), nullable=False),
        sa.Column("parameters", JsonOf(), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("status", words(16), nullable=False),
        sa.Column("cpu", sa.BigInteger(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("version", words(255), nullable=False),
        sa.Column("identity", words(255), nullable=False, comment="of the agent that answered last"),
        sa.Column("last_seen_at", UtcTime(), comment="coarse: written every few minutes"),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"], ["resource.uuid"], name="fk_host_cluster_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_host_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_host_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_host"),
        sa.UniqueConstraint("management_ip", name="uq_host_management_ip"),
    )
    op.create_index("ix_host_cluster_uuid", "host", ["cluster_uuid"])
    op.create_index("ix_host_identity", "host", ["identity"])
    op.create_index("ix_host_zone_uuid", "host", ["zone_uuid"])
