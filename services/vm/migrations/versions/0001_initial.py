"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UtcTime, UuidText, words

revision = "vm_0001"
down_revision = None
branch_labels = "vm"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "vm",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("hypervisor", words(255), nullable=False),
        sa.Column("zone_uuid", UuidText),
        sa.Column("cluster_uuid", UuidText),
        sa.Column("host_uuid", UuidText),
        sa.Column("last_host_uuid", UuidText),
        sa.Column("instance_offering_uuid", UuidText),
        sa.Column("destroyed_at", UtcTime()),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"], ["resource.uuid"], name="fk_vm_cluster_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["resource.uuid"], name="fk_vm_host_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["instance_offering_uuid"],
            ["resource.uuid"],
            name="fk_vm_instance_offering_uuid",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["last_host_uuid"], ["resource.uuid"], name="fk_vm_last_host_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_vm_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_vm_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_vm"),
    )
    op.create_index("ix_vm_cluster_uuid", "vm", ["cluster_uuid"])
    op.create_index("ix_vm_host_uuid_uuid", "vm", ["host_uuid", "uuid"])
    op.create_index("ix_vm_instance_offering_uuid", "vm", ["instance_offering_uuid"])
    op.create_index("ix_vm_last_host_uuid", "vm", ["last_host_uuid"])
    op.create_index("ix_vm_state_destroyed_at", "vm", ["state", "destroyed_at"])
    op.create_index("ix_vm_zone_uuid", "vm", ["zone_uuid"])
