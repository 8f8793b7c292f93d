from sqlalchemy import Column, String

from mgmtnode.db.base import ref, resource_table

cluster = resource_table(
    "cluster",
    ref("zone_uuid", "zone", back="clusters"),
    Column("hypervisor", String(255), nullable=False),
    Column("state", String(16), nullable=False),
)
