"""The table as it was at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import UuidText, words

revision = "press_0001"
down_revision = None
branch_labels = "press"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "sheet",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("layers", words(256), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_sheet_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_sheet"),
    )
