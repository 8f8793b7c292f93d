"""The tables as they were at first."""

import sqlalchemy as sa
from alembic import op

from mgmtnode.db.base import JsonOf, UuidText, words

revision = "network_0001"
down_revision = None
branch_labels = "network"
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "l2_network",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("type", words(16), nullable=False),
        sa.Column("vlan", sa.Integer()),
        sa.Column("physical_interface", words(16), nullable=False),
        sa.Column("all_clusters", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_l2_network_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_l2_network_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_l2_network"),
    )
    op.create_index("ix_l2_network_zone_uuid", "l2_network", ["zone_uuid"])
    op.create_table(
        "l2_network_cluster",
        sa.Column("l2_network_uuid", UuidText, nullable=False),
        sa.Column("cluster_uuid", UuidText, nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"], ["resource.uuid"], name="fk_l2_network_cluster_cluster_uuid", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["l2_network_uuid"],
            ["resource.uuid"],
            name="fk_l2_network_cluster_l2_network_uuid",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("l2_network_uuid", "cluster_uuid", name="pk_l2_network_cluster"),
    )
    op.create_index("ix_l2_network_cluster_cluster_uuid", "l2_network_cluster", ["cluster_uuid"])
    op.create_table(
        "l3_network",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("zone_uuid", UuidText, nullable=False),
        sa.Column("l2_network_uuid", UuidText),
        sa.Column("state", words(16), nullable=False),
        sa.Column("allocator_strategy", words(32), nullable=False),
        sa.Column("dns", JsonOf(), nullable=False),
        sa.Column("domain", words(253), nullable=False),
        sa.Column(
            "last_number",
            sa.BigInteger(),
            comment="address last handed out, where the next one goes up from it",
        ),
        sa.ForeignKeyConstraint(
            ["l2_network_uuid"], ["resource.uuid"], name="fk_l3_network_l2_network_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_l3_network_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["resource.uuid"], name="fk_l3_network_zone_uuid", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_l3_network"),
    )
    op.create_index("ix_l3_network_l2_network_uuid", "l3_network", ["l2_network_uuid"])
    op.create_index("ix_l3_network_zone_uuid", "l3_network", ["zone_uuid"])
    op.create_table(
        "ip_range",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("l3_network_uuid", UuidText, nullable=False),
        sa.Column("start_ip", words(15), nullable=False),
        sa.Column("end_ip", words(15), nullable=False),
        sa.Column("gateway", words(15)),
        sa.Column("netmask", words(15), nullable=False),
        sa.Column("cidr", words(18), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False, comment="start_ip as a number"),
        sa.Column("last_number", sa.BigInteger(), nullable=False, comment="end_ip as a number"),
        sa.ForeignKeyConstraint(
            ["l3_network_uuid"], ["resource.uuid"], name="fk_ip_range_l3_network_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_ip_range_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_ip_range"),
    )
    op.create_index("ix_ip_range_l3_network_uuid", "ip_range", ["l3_network_uuid"])
    op.create_table(
        "nic",
        sa.Column("uuid", UuidText, nullable=False),
        sa.Column("vm_uuid", UuidText, nullable=False),
        sa.Column("l3_network_uuid", UuidText, nullable=False),
        sa.Column("ip_range_uuid", UuidText),
        sa.Column("mac", words(17), nullable=False),
        sa.Column("ip", words(15)),
        sa.Column("ip_number", sa.BigInteger(), comment="the address as a number: its order finds gaps"),
        sa.Column("device_index", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ip_range_uuid"], ["resource.uuid"], name="fk_nic_ip_range_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["l3_network_uuid"], ["resource.uuid"], name="fk_nic_l3_network_uuid", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["uuid"], ["resource.uuid"], name="fk_nic_uuid", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["vm_uuid"], ["resource.uuid"], name="fk_nic_vm_uuid", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("uuid", name="pk_nic"),
        sa.UniqueConstraint("mac", name="uq_nic_mac"),
    )
    op.create_index("ix_nic_ip", "nic", ["ip"])
    op.create_index("ix_nic_ip_range_uuid", "nic", ["ip_range_uuid"])
    op.create_index("ix_nic_vm_uuid", "nic", ["vm_uuid"])
    op.create_index("uq_nic_l3_network_uuid_ip_number", "nic", ["l3_network_uuid", "ip_number"], unique=True)
