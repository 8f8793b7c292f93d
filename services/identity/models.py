"""The tables of the identity service. Secrets stand apart from what queries can reach."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table

from mgmtnode.contracts.identity import PolicyStatement
from mgmtnode.db.base import JsonOf, UtcTime, UuidText, metadata, ref, resource_table

account = resource_table(
    "account",
    Column("type", String(16), nullable=False),
    Column("state", String(16), nullable=False),
)

user = resource_table(
    "user",
    Column(
        "login",
        String(300),
        nullable=False,
        unique=True,
        comment="account_uuid/name: names are unique in an account",
    ),
)

policy = resource_table("policy", Column("statements", JsonOf(list[PolicyStatement]), nullable=False))

user_policy = Table(
    "user_policy",
    metadata,
    ref("user_uuid", "user", back="policies"),
    ref("policy_uuid", "policy", back="users"),
    Index("uq_user_policy", "user_uuid", "policy_uuid", unique=True),
)

api_key = resource_table(
    "api_key",
    ref("user_uuid", "user", back="api_keys", nullable=True),
    Column("digest", String(64), nullable=False, unique=True, comment="SHA-256 of the token, hex"),
    Column("expires_at", UtcTime),
)

session = Table(
    "session",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("account_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), nullable=False),
    Column("user_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), index=True),
    Column("digest", String(64), nullable=False, unique=True, comment="SHA-256 of the token, hex"),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
    Index(None, "account_uuid", "user_uuid", "created_at"),
    info={"resource_type": "session"},
)

password = Table(
    "password",
    metadata,
    Column("uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), primary_key=True),
    Column("hash", String(255), nullable=False, comment="scrypt with its parameters and salt"),
    Column("changed_at", UtcTime, nullable=False),
)

quota = resource_table(
    "quota",
    Column("value", BigInteger, nullable=False, comment="-1: no limit"),
    Column("overridden", Boolean, nullable=False, default=False),
    Column("unit", String(16), nullable=False),
)

TABLES = (account, user, policy, user_policy, api_key, session, password, quota)
