"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText, words

revision = "offering_0001"
down_revision = None
branch_labels = "offering"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "instance_offering",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("allocator_strategy", words(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["uuid"], ["resource.uuid"], name="fk_instance_offering_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_instance_offering"),
    )
