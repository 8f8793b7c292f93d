"""Expanded: whoever does not know of colours leaves them as they are."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import words

revision = "press_0002"
down_revision = "press_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sheet", sa.Column("colour", words(32), nullable=False, server_default="white"))
