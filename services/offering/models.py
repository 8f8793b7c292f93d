from sqlalchemy import BigInteger, Column, Integer, String

from mgmtnode.db.base import resource_table

instance_offering = resource_table(
    "instance_offering",
    Column("cpu", Integer, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("allocator_strategy", String(64), nullable=False),
)
