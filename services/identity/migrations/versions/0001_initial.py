"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import JsonOf, UtcTime, UuidText, words

revision = "identity_0001"
down_revision = None
branch_labels = "identity"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("type", words(16), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_account_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_account"),
    )
    op.create_table(
        "user",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column(
            "login", words(300), nullable=False, comment="account_uuid/name: names are unique in an account"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_user_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_user"),
        sa.UniqueConstraint("login", name="uq_user_login"),
    )
    op.create_table(
        "policy",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("statements", JsonOf(), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_policy_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_policy"),
    )
    op.create_table(
        "user_policy",
        sa.Column("user_uuid", UuidText, nullable=False),
        sa.Column("policy_uuid", UuidText, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_uuid"], ["resource.uuid"], name="fk_user_policy_policy_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_uuid"], ["resource.uuid"], name="fk_user_policy_user_uuid", ondelete="RESTRICT"
        ),
    )
    op.create_index("ix_user_policy_policy_uuid", "user_policy", ["policy_uuid"])
    op.create_index("ix_user_policy_user_uuid", "user_policy", ["user_uuid"])
    op.create_index("uq_user_policy", "user_policy", ["user_uuid", "policy_uuid"], unique=True)
    op.create_table(
        "api_key",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("user_uuid", UuidText),
        sa.Column("digest", words(64), nullable=False, comment="SHA-256 of the token, hex"),
        sa.Column("expires_at", UtcTime()),
        sa.ForeignKeyConstraint(
            ["user_uuid"], ["resource.uuid"], name="fk_api_key_user_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_api_key_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_api_key"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
    )
    op.create_index("ix_api_key_user_uuid", "api_key", ["user_uuid"])
    op.create_table(
        "session",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("account_uuid", UuidText, nullable=False),
        sa.Column("user_uuid", UuidText),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the token, hex"),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_uuid"], ["resource.uuid"], name="fk_session_account_uuid", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_uuid"], ["resource.uuid"], name="fk_session_user_uuid", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_session"),
        sa.UniqueConstraint("digest", name="uq_session_digest"),
    )
    op.create_index(
        "ix_session_account_uuid_user_uuid_created_at", "session", ["account_uuid", "user_uuid", "created_at"]
    )
    op.create_index("ix_session_expires_at", "session", ["expires_at"])
    op.create_index("ix_session_user_uuid", "session", ["user_uuid"])
    op.create_table(
        "password",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column(
            "hash", sa.String(length=255), nullable=False, comment="scrypt with its parameters and salt"
        ),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_password_uuid", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("uuid", name="pk_password"),
    )
    op.create_table(
        "quota",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False, comment="-1: no limit"),
        sa.Column("overridden", sa.Boolean(), nullable=False),
        sa.Column("unit", words(16), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_quota_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_quota"),
    )
