"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText, words

revision = "cluster_0001"
down_revision = None
branch_labels = "cluster"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "cluster",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("hypervisor", words(255), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_cluster_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_cluster_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_cluster"),
    )
    op.create_index("ix_cluster_zone_uuid", "cluster", ["zone_uuid"])
