from sqlalchemy import BigInteger, Column, Index, Integer, String

from mgmtnode.db.base import UtcTime, ref, resource_table

vm = resource_table(
    "vm",
    Column("state", String(16), nullable=False),
    Column("cpu", Integer, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("hypervisor", String(255), nullable=False, default=""),
    ref("zone_uuid", "zone", back="vms", nullable=True),
    ref("cluster_uuid", "cluster", back="vms", nullable=True),
    ref("host_uuid", "host", back="vms", nullable=True, index=False),
    ref("last_host_uuid", "host", as_="last_host", back="former_vms", nullable=True),
    ref("instance_offering_uuid", "instance_offering", as_="instance_offering", back="vms", nullable=True),
    Column("destroyed_at", UtcTime),
    Index(None, "state", "destroyed_at"),
    Index(None, "host_uuid", "uuid"),  # pages of the VMs of some hosts are in the order of their uuids
)
