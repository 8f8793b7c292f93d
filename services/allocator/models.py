from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table

from mgmtnode.db.base import UuidText, metadata

host_capacity = Table(
    "host_capacity",
    metadata,
    Column("host_uuid", UuidText, ForeignKey("resource.uuid", ondelete="CASCADE"), primary_key=True),
    Column("cluster_uuid", UuidText, nullable=False),
    Column("zone_uuid", UuidText, nullable=False),
    Column("hypervisor", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("cluster_open", Boolean, nullable=False, comment="its cluster is enabled"),
    Column("zone_open", Boolean, nullable=False, comment="its zone is enabled"),
    Column("cpu", Integer, nullable=False, comment="physical threads"),
    Column("memory", BigInteger, nullable=False, comment="bytes the host has"),
    Column("reserved_memory", BigInteger, nullable=False, comment="bytes kept from VMs"),
    Index(None, "zone_uuid", "cluster_uuid"),
)
