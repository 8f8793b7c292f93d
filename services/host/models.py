from sqlalchemy import BigInteger, Column, String

from mgmtnode.db.base import JsonOf, UtcTime, ref, resource_table

host = resource_table(
    "host",
    ref("cluster_uuid", "cluster", back="hosts"),
    ref("zone_uuid", "zone", back="hosts"),
    Column("management_ip", String(255), nullable=False, unique=True),
    Column("hypervisor", String(255), nullable=False),
    Column("parameters", JsonOf(), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("cpu", BigInteger, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("version", String(255), nullable=False),
    Column("identity", String(255), nullable=False, index=True, comment="of the agent that answered last"),
    Column("last_seen_at", UtcTime, comment="coarse: written every few minutes"),
)
