"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText, words

revision = "zone_0001"
down_revision = None
branch_labels = "zone"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "zone",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_zone_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_zone"),
    )
