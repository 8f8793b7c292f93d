from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table

from mgmtnode.db.base import JsonOf, UuidText, metadata, ref, resource_table

l2_network = resource_table(
    "l2_network",
    ref("zone_uuid", "zone", back="l2_networks"),
    Column("type", String(16), nullable=False),
    Column("vlan", Integer),
    Column("physical_interface", String(16), nullable=False),
    Column("all_clusters", Boolean, nullable=False),
)

l2_network_cluster = Table(
    "l2_network_cluster",
    metadata,
    Column(
        "l2_network_uuid",
        UuidText,
        ForeignKey("resource.uuid", ondelete="CASCADE"),
        primary_key=True,
        info={"ref": "l2_network", "as": "l2_network", "back": "clusters"},
    ),
    Column(
        "cluster_uuid",
        UuidText,
        ForeignKey("resource.uuid", ondelete="CASCADE"),  # an attachment is nothing without its cluster
        primary_key=True,
        index=True,
        info={"ref": "cluster", "as": "cluster", "back": "l2_networks"},
    ),
)

l3_network = resource_table(
    "l3_network",
    ref("zone_uuid", "zone", back="l3_networks"),
    ref("l2_network_uuid", "l2_network", back="l3_networks", nullable=True),
    Column("state", String(16), nullable=False),
    Column("allocator_strategy", String(32), nullable=False),
    Column("dns", JsonOf(list[str]), nullable=False),
    Column("domain", String(253), nullable=False),
    Column("last_number", BigInteger, comment="address last handed out, where the next one goes up from it"),
)

ip_range = resource_table(
    "ip_range",
    ref("l3_network_uuid", "l3_network", back="ip_ranges", part_of=True),
    Column("start_ip", String(15), nullable=False),
    Column("end_ip", String(15), nullable=False),
    Column("gateway", String(15)),
    Column("netmask", String(15), nullable=False),
    Column("cidr", String(18), nullable=False),
    Column("size", Integer, nullable=False),
    Column("first_number", BigInteger, nullable=False, comment="start_ip as a number"),
    Column("last_number", BigInteger, nullable=False, comment="end_ip as a number"),
)

nic = resource_table(
    "nic",
    ref("vm_uuid", "vm", as_="vm", back="nics", part_of=True),
    ref("l3_network_uuid", "l3_network", back="nics", index=False),
    ref("ip_range_uuid", "ip_range", back="nics", nullable=True),
    Column("mac", String(17), nullable=False, unique=True),
    Column("ip", String(15)),
    Column("ip_number", BigInteger, comment="the address as a number: its order finds gaps"),
    Column("device_index", Integer, nullable=False),
    Index("uq_nic_l3_network_uuid_ip_number", "l3_network_uuid", "ip_number", unique=True),
    Index("ix_nic_ip", "ip"),
)

TABLES = (l2_network, l2_network_cluster, l3_network, ip_range, nic)
