from sqlalchemy import Column, String

from mgmtnode.db.base import ref, resource_table

greeting = resource_table(
    "greeting",
    ref("zone_uuid", "zone", back="greetings"),
    Column("text", String(512), nullable=False),
)
