"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText

revision = "allocator_0001"
down_revision = None
branch_labels = "allocator"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "host_capacity",
        sa.Column("host_uuid", UuidText, nullable=False),
        sa.Column("cluster_uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("hypervisor", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("cluster_open", sa.Boolean(), nullable=False, comment="its cluster is enabled"),
        sa.Column("zone_open", sa.Boolean(), nullable=False, comment="its zone is enabled"),
        sa.Column("cpu", sa.Integer(), nullable=False, comment="physical threads"),
        sa.Column("memory", sa.BigInteger(), nullable=False, comment="bytes the host has"),
        sa.Column("reserved_memory", sa.BigInteger(), nullable=False, comment="bytes kept from VMs"),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["resource.uuid"], name="fk_host_capacity_host_uuid", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_uuid", name="pk_host_capacity"),
    )
    op.create_index("ix_host_capacity_zone_uuid_cluster_uuid", "host_capacity", ["zone_uuid", "cluster_uuid"])
