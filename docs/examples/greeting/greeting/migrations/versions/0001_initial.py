"""The table as it was at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText, words

revision = "greeting_0001"
down_revision = None
branch_labels = "greeting"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "greeting",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("text", words(512), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_greeting_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_greeting_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_greeting"),
    )
    op.create_index("ix_greeting_zone_uuid", "greeting", ["zone_uuid"])
